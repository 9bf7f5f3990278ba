"""The dashboard in a browser: served as `algo dashboard` serves it, looked at with Chromium."""

import re
import shutil
import subprocess
import urllib.error
import urllib.request
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from dashboard import ALGO, CHROMIUM, DRAWN, Server, browser, choose, environment, leave, make_runs, visit, wait

from algo_research.data.market.bars import DatasetId
from algo_research.data.quality.repairs import apply_repairs, propose_repairs
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store

needs_chromium = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine")
pytestmark = [pytest.mark.slow, pytest.mark.browser]
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    make_runs(folder)
    return folder


@pytest.fixture(scope="module")
def server(workspace):
    with Server(workspace, "--idle", "5", warm=1) as running:
        yield running


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture
def watched(chromium):
    """Make pages that must not complain, and must not ask anybody else."""
    complaints: list[str] = []
    opened = []

    def page(**options):
        made = chromium.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        opened.append(made)
        made.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        made.on("pageerror", lambda e: complaints.append(str(e)))
        made.on("requestfailed", lambda r: complaints.append(f"failed: {r.url}"))
        made.on(
            "request",
            lambda r: (
                complaints.append(f"outside: {r.url}")
                if not re.match(r"(http|ws)://127\.0\.0\.1|data:|blob:", r.url)
                else None
            ),
        )
        return made

    yield page
    seen = list(complaints)  # closing a page breaks off its requests
    for made in opened:
        made.close()
    assert seen == []


def figures_are_drawn(page) -> int:
    """How many figures there are; each must be visible, inside the window's width, and have something drawn."""
    boxes = page.evaluate("""[...document.querySelectorAll('.algo.live .figure')].map(f => {
        const box = f.getBoundingClientRect(), svg = f.querySelector('.main-svg').getBoundingClientRect();
        const marks = f.querySelectorAll('.plot path, .plot .point, .xy path').length;
        return {id: f.dataset.id, width: svg.width, height: svg.height, right: box.right, marks};
    })""")
    width = page.evaluate("document.documentElement.clientWidth")
    for box in boxes:
        assert box["width"] > 200 and box["height"] > 150 and box["marks"] > 0, box
        assert box["right"] <= width + 1, box
    return len(boxes)


@needs_chromium
def test_key_figures_come_without_scripts_and_figures_follow(server, watched):
    html = server.html()
    assert (
        "confidence after all trials" in html
        and "edge" in html.lower()
        and "<svg" in html
        and "cdn" not in html.lower()
    )
    page = watched()
    visit(page, server.url)
    wait(page, FITS, timeout=20_000)
    assert figures_are_drawn(page) == 9


@needs_chromium
def test_pickers_periods_and_comparison_work(server, watched):
    page = watched()
    visit(page, server.url)
    table = page.inner_text(".algo.live table")
    choose(page, "period", "30")
    assert page.inner_text(".algo.live table") != table
    assert choose(page, "period", "1825") < 60  # the same answer as for all bars, and an answer nevertheless
    choose(page, "period", "all")
    assert page.inner_text(".algo.live table") == table
    about = page.inner_text(".algo.live .quiet >> nth=0")
    runs = page.eval_on_selector_all("#algo-run option", "options => options.map(o => o.value)")
    assert len(runs) == 2 and runs[0] > runs[1]
    choose(page, "run", runs[1])
    assert runs[1] in page.inner_text(".algo.live .quiet >> nth=0") != about
    page.click(".algo.live details.compare summary")
    page.check(f".algo.live details.compare input[value='{runs[0]}']")
    wait(
        page,
        f"document.querySelector('.algo.live table').innerText.includes('{runs[0][-8:]}') && "
        "!document.querySelector('.algo.live .busy')",
    )
    assert "Compared with 1" in page.inner_text(".algo.live summary")
    figures_are_drawn(page)


@needs_chromium
def test_dark_and_narrow(server, watched):
    page = watched(viewport={"width": 400, "height": 800}, color_scheme="dark")
    visit(page, server.url)
    wait(page, FITS, timeout=20_000)
    assert figures_are_drawn(page) == 9
    heads = page.evaluate("""[...document.querySelectorAll('.figure')].flatMap(f => {
        const box = f.getBoundingClientRect(), plot = box.top + f._fullLayout._size.t;
        return [...f.querySelectorAll('.gtitle, .gtitle-subtitle')].map(t => {
            const text = t.getBoundingClientRect();
            return [t.textContent, text.top >= box.top && text.right <= box.right && text.bottom <= plot];
        });
    })""")
    assert len(heads) > 9 and not [
        text for text, whole in heads if not whole
    ]  # no title is cut, none lies on the figure
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.algo h1')).color]"
    )
    assert max(map(int, re.findall(r"\d+", paper)[:3])) < 60 and min(map(int, re.findall(r"\d+", ink)[:3])) > 180


@needs_chromium
def test_pages_that_go_away_leave_no_kernel(server, watched, chromium):
    pages = [chromium.new_page() for _ in range(3)]
    for page in pages:
        page.goto(server.url, wait_until="commit", timeout=60_000)
    for page in pages:
        wait(page, DRAWN, timeout=90_000)
    assert len(server.kernels()) >= 3
    for page in pages:
        page.close(run_before_unload=False)
    assert server.settle() == server.warm


@needs_chromium
def test_a_page_that_says_goodbye_takes_its_kernel_along(workspace, chromium):
    with Server(workspace, "--idle", "600", warm=1) as server:  # nothing is culled meanwhile
        page, hasty = chromium.new_page(), chromium.new_page()
        visit(page, server.url)
        leave(page)
        assert server.settle(30) == 1
        hasty.goto(server.url, wait_until="commit")
        hasty.wait_for_selector(".algo .cards .card >> nth=0")
        leave(hasty)  # before Voila's scripts are there
        assert server.settle(30) == 1


def test_pages_of_other_hosts_and_origins_are_refused(server):
    token = {"Authorization": f"token {server.token}"}

    def status(path: str, data: bytes | None = None, **headers: str) -> int:
        request = urllib.request.Request(server.address + path, data=data, headers={**token, **headers})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code

    assert status("", Host="evil.example") == 403
    goodbye = f"voila/api/shutdown/{uuid.uuid4()}"
    assert status(goodbye, b"") == 204
    assert status(goodbye, b"", Origin="http://evil.example") in (403, 404)


@needs_chromium
def test_an_empty_workspace_says_so_and_a_new_run_appears_by_itself(workspace, watched, tmp_path):
    (tmp_path / "settings.ini").write_text("")
    with Server(tmp_path, warm=1) as server:
        assert "There is no run to look at yet" in server.html()
        page = watched()
        page.goto(server.url)
        page.wait_for_selector(".algo.live .empty")
        assert page.is_hidden(".algo.live .controls")
        run = next(workspace.glob("reports/backtest/*"))
        shutil.copytree(run, tmp_path / "reports" / "backtest" / run.name)
        wait(page, DRAWN, timeout=20_000)
        assert run.name in page.inner_text(".algo.live .quiet >> nth=0")


def test_bad_input_is_refused(workspace, server):
    def refused(*arguments: str) -> str:
        done = subprocess.run(
            [*ALGO, "dashboard", "--no-browser", *arguments],
            cwd=workspace,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert f"Port {server.port} is in use" in refused("--port", str(server.port))
    assert "Did you mean 'performance'" in refused("performence")


@needs_chromium
def test_data_quality_shows_what_is_wrong_and_follows_a_repair(tmp_path, watched):
    """A dataset with a gap and a range of swapped volumes; once it is repaired, the page says so by itself."""
    (tmp_path / "settings.ini").write_text("")
    market = make_market("garch", seed=3, bars=6000, timeframe="1h", volatility=0.004)
    day = pl.col("ts") - market.bars["ts"][0]
    spoilt = market.bars.filter(~day.is_between(timedelta(days=30), timedelta(days=34))).with_columns(
        volume=pl.when(day.is_between(timedelta(days=80), timedelta(days=200)))
        .then(pl.col("volume") * pl.col("close"))
        .otherwise("volume")
    )
    dataset = replace(market, id=DatasetId("demo", "GARCH", "1h"), bars=spoilt)
    store = open_store("delta://.algo/store", tmp_path)
    with Server(tmp_path, "data_quality", warm=1) as server:
        assert "There is no dataset in the store yet" in server.html()
        page = watched()
        page.goto(server.url)
        page.wait_for_selector(".algo.live .empty")
        store.write(dataset)
        wait(page, DRAWN, timeout=20_000)
        assert figures_are_drawn(page) == 4
        assert "quality score" in page.inner_text(
            ".algo.live .cards"
        ) and "base and quote volume swapped" in page.inner_text(".algo.live table")
        assert page.eval_on_selector_all(
            ".algo.live .figure[data-id=repair] .legendtext", "names => names.map(n => n.textContent)"
        ) == ["as it is", "repaired"]
        findings = page.eval_on_selector_all("#algo-finding option", "options => options.map(o => o.value)")
        choose(page, "finding", next(f for f in findings if f.startswith("bars missing")))
        assert "no repair to propose" in page.inner_text(".algo.live .figure[data-id=repair]")
        proposals = propose_repairs(dataset)
        turn = page.evaluate("document.querySelector('.algo.live').dataset.turn")
        store.write(apply_repairs(dataset, proposals), reason="repaired", replace=True)
        wait(page, f"document.querySelector('.algo.live').dataset.turn !== '{turn}'", timeout=20_000)
        assert "swapped" not in page.inner_text(".algo.live table") and "repaired" in page.inner_text(
            ".algo.live .cards"
        )
        page.set_viewport_size({"width": 400, "height": 800})
        wait(page, FITS, timeout=20_000)  # figures are drawn anew one after the other
