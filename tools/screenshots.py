"""Make the pictures of the documentation again: a report and the dashboard, light and dark, as a reader sees them.

    python tools/screenshots.py [FOLDER]        by default docs/images
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from dashboard import ALGO, DRAWN, Server, browser, environment  # noqa: E402


def main(arguments: list[str]) -> int:
    images = Path(arguments[0]) if arguments else ROOT / "docs" / "images"
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        (workspace / "settings.ini").write_text("")
        for parameters in ([], ["-p", "horizon=10"], ["-p", "dataset=synthetic/planted:0/1h"]):
            subprocess.run([*ALGO, "run", "research", *parameters], cwd=workspace, env=environment(), check=True, capture_output=True)
        reports = sorted(workspace.glob("reports/research/*/report.html"))
        with browser() as chromium:
            page = chromium.new_page(viewport={"width": 1180, "height": 900})
            page.goto(reports[0].as_uri())
            page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 3")
            page.wait_for_timeout(500)
            page.screenshot(path=images / "report.png")
            page.close()
            with Server(workspace) as server:
                for scheme in ("light", "dark"):
                    page = chromium.new_page(viewport={"width": 1180, "height": 1380}, color_scheme=scheme)
                    page.goto(server.url)
                    page.wait_for_function(DRAWN)
                    page.wait_for_timeout(500)
                    page.screenshot(path=images / f"dashboard-{scheme}.png")
                    page.close()
    for name in ("report", "dashboard-light", "dashboard-dark"):
        print(f"{images / name}.png  {(images / f'{name}.png').stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
