"""Make the pictures of the documentation again: a report and the dashboards, light and dark, as a reader sees them.

python tools/screenshots.py [FOLDER]        by default docs/images
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from dashboard import ALGO, DRAWN, Server, browser, environment, wait  # noqa: E402

from algo_research.data.market.bars import DatasetId  # noqa: E402
from algo_research.data.samples.synthetic import make_market  # noqa: E402
from algo_research.data.stores.base import open_store  # noqa: E402


def spoil(workspace: Path) -> None:
    """A dataset with a week missing, forty days of the wrong volume, and a price ten times too high."""
    market = make_market("garch", seed=3, bars=12_000, timeframe="1h", volatility=0.004)
    day = pl.col("ts") - market.bars["ts"][0]
    swapped, spike = day.is_between(timedelta(days=200), timedelta(days=240)), day == timedelta(days=320)
    ten = [pl.when(spike).then(pl.col(c) * 10).otherwise(c).alias(c) for c in ("high", "close")]
    bars = market.bars.filter(~day.is_between(timedelta(days=100), timedelta(days=107))).with_columns(
        *ten, volume=pl.when(swapped).then(pl.col("volume") * pl.col("close")).otherwise("volume")
    )
    open_store("delta://.algo/store", workspace).write(
        replace(market, id=DatasetId("demo", "GARCH", "1h"), bars=bars), reason="imported"
    )


def shoot(chromium, server: Server, path: Path, height: int, scheme: str = "light") -> None:
    """A dashboard as a reader sees it."""
    page = chromium.new_page(viewport={"width": 1180, "height": height}, color_scheme=scheme)
    page.goto(server.url)
    wait(page, DRAWN)
    page.wait_for_timeout(800)
    page.screenshot(path=path)
    page.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    images = parser.parse_args(arguments).folder
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        (workspace / "settings.ini").write_text("")
        for parameters in ([], ["-p", "horizon=10"], ["-p", "dataset=synthetic/planted:0/1h"]):
            subprocess.run(
                [*ALGO, "run", "research", *parameters],
                cwd=workspace,
                env=environment(),
                check=True,
                capture_output=True,
            )
        reports = sorted(workspace.glob("reports/research/*/report.html"))
        with browser() as chromium:
            page = chromium.new_page(viewport={"width": 1180, "height": 900})
            page.goto(reports[0].as_uri())
            wait(page, "document.querySelectorAll('.js-plotly-plot .main-svg').length > 3")
            page.wait_for_timeout(500)
            page.screenshot(path=images / "report.png")
            page.close()
            with Server(workspace) as server:
                for scheme in ("light", "dark"):
                    shoot(chromium, server, images / f"dashboard-{scheme}.png", 1380, scheme)
            spoil(workspace)
            with Server(workspace, "data_quality") as server:
                shoot(chromium, server, images / "data-quality.png", 1990)
    for name in ("report", "dashboard-light", "dashboard-dark", "data-quality"):
        print(f"{images / name}.png  {(images / f'{name}.png').stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
