"""The report in a browser: drawn, complete in itself, the answer first, on a screen and on paper;
and what it says of a run that failed.
"""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import nbformat
import polars as pl
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from algo_research.runs.parameters import shipped
from algo_research.runs.report import failure, made, render_report, write_report
from algo_research.views.learning import folds_figure
from algo_research.views.performance import yearly_figure

RUN = {
    "schema": 2,
    "run_id": "20261121-040512-3f2a9c1b",
    "template": "research",
    "title": "Research",
    "status": "succeeded",
    "identity": "ab" * 32,
    "inputs": {
        "parameters": {"dataset": "arch/SP500/1d", "strategy": "model"},
        "data": {"arch/SP500/1d": "cd" * 32},
        "dependencies": {"numpy": "2.4.6"},
        "seed": 0,
    },
    "outputs": {"metrics.json": "ef" * 32},
    "record": {"package": "0.1.0", "finished": None},
    "steps": [{"name": "data", "status": "succeeded", "seconds": 0.4}],
    "error": None,
}
TEMPLATES = ["research", "features", "train", "backtest", "compare", "ingest", "sync"]


def notebook(name: str) -> nbformat.NotebookNode:
    """A template with the outputs it is kept with."""
    return nbformat.read(shipped("templates") / f"{name}.ipynb", 4)


class Visit:
    """A page that was opened with everything outside it cut off, and what it complained of."""

    def __init__(self, browser, file: Path, width: int = 1280, height: int = 800, scheme: str = "light"):
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page, self.outside, self.errors = self.context.new_page(), [], []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.route("**/*", self._guard)
        self.page.goto(file.as_uri())
        self.wait("[...document.querySelectorAll('.plot')].every(p => p.querySelector('svg'))")

    def wait(self, condition: str, seconds: float = 20.0):
        """Until a condition holds; the page's policy forbids `wait_for_function`, which evaluates text there."""
        for _ in range(round(20 * seconds)):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)  # a real sleep: between two looks
        raise AssertionError(f"not true after {seconds} s: {condition}")

    def _guard(self, route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            return route.continue_()
        self.outside.append(route.request.url)
        return route.abort()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {name: write_report(notebook(name), folder / f"{name}.html", RUN | {"template": name}) for name in TEMPLATES}


DRAWN = """[...document.querySelectorAll('.plot')].map(p => ({
  title: p.getAttribute('aria-label'), width: p.getBoundingClientRect().width, height: p.getBoundingClientRect().height,
  marks: p.querySelectorAll(
    '.trace path, .points path, .point path, .barlayer path, .boxlayer path, .heatmaplayer image').length,
  words: p.querySelectorAll('.annotation-text').length}))"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("name", TEMPLATES)
def test_figures_are_drawn_and_nothing_is_asked_of_the_network(browser, reports, name, width):
    with Visit(browser, reports[name], width) as visit:
        drawn = visit.page.evaluate(DRAWN)
        assert len(drawn) == sum(
            "application/vnd.plotly.v1+json" in o.get("data", {})
            for c in notebook(name).cells
            for o in c.get("outputs", [])
        )
        for figure in drawn:
            assert figure["width"] > 250 and figure["height"] > 80, figure
            assert figure["marks"] or figure["words"], figure  # an empty figure says why it is empty
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert (visit.outside, visit.errors) == ([], [])


def test_the_guard_sees_what_it_must_see(browser, tmp_path):
    page = write_report(new_notebook(cells=[new_markdown_cell("# Leak")]), tmp_path / "leak.html")
    page.write_text(page.read_text().replace("</main>", '<img src="http://192.0.2.1/pixel.png"></main>'))
    with Visit(browser, page) as visit:
        assert any("Content Security Policy" in e for e in visit.errors)
    page.write_text(re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", page.read_text()))
    with Visit(browser, page) as visit:
        assert visit.outside == ["http://192.0.2.1/pixel.png"]


@pytest.mark.parametrize("width", [1280, 420])
def test_the_first_screen_answers(browser, reports, width):
    sentence = json.loads(
        json.dumps(
            next(
                o
                for c in notebook("research").cells
                for o in c.get("outputs", [])
                if "**No edge" in str(o.get("data", {}).get("text/markdown", ""))
            )["data"]["text/markdown"]
        )
    )
    told = re.search(r"\*\*No edge: (.*?)\*\*", "".join(sentence)).group(1)
    with Visit(browser, reports["research"], width) as visit:
        box = visit.page.locator(".summary .verdict").bounding_box()
        assert box["y"] + box["height"] < 800
        shown = visit.page.locator(".summary .verdict").inner_text()
        assert "No edge" in shown and told[1:] in shown
        assert visit.page.locator("nav a").count() >= 5


OVERLAPS = """[...document.querySelectorAll('.plot')].filter(p => p.querySelector('.legend')).map(p => {
  const legend = p.querySelector('.legend').getBoundingClientRect();
  const bottoms = [...p.querySelectorAll('.nsewdrag')].map(a => a.getBoundingClientRect().bottom);
  const below = Math.min(...bottoms.map(bottom => legend.top - bottom));
  const words = [...p.querySelectorAll('.xtick text')].map(t => t.getBoundingClientRect());
  const labels = Math.max(...words.map(box => box.bottom - legend.top));
  const apart = Math.min(1, ...words.slice(1).map((box, i) => box.left - words[i].right));
  const cut = legend.bottom - p.getBoundingClientRect().bottom;
  return {title: p.getAttribute('aria-label'), below, labels, apart, cut}})"""


@pytest.mark.slow
def test_no_legend_covers_data_or_labels(browser, reports):
    for width in (1280, 420):
        with Visit(browser, reports["research"], width) as visit:
            found = visit.page.evaluate(OVERLAPS)
            assert len(found) >= 5
            assert all(f["below"] >= 0 and f["cut"] <= 1 for f in found), found
            assert all(f["labels"] <= 1 and f["apart"] >= 0 for f in found), found


@pytest.mark.parametrize("days", [12_000, 500], ids=["33 years", "17 months"])
def test_many_years_and_months_are_labelled_and_not_cut(browser, tmp_path, days):
    ts = pl.datetime_range(datetime(2022, 12, 30) - timedelta(days=days), datetime(2022, 12, 30), "1d", eager=True)
    equity = pl.concat(pl.DataFrame({"name": n, "ts": ts, "return": 0.001}) for n in ("model", "matched_hold"))
    figure = json.loads(yearly_figure(equity).to_json())
    drawn = new_output("display_data", {"application/vnd.plotly.v1+json": figure})
    page = write_report(new_notebook(cells=[new_code_cell("x", outputs=[drawn])]), tmp_path / "years.html")
    for width in (1280, 420):
        with Visit(browser, page, width) as visit:
            (found,) = visit.page.evaluate(OVERLAPS)
            assert found["labels"] <= 1 and found["apart"] >= 0, found


APART = """(() => {
  const box = name => [...document.querySelectorAll(name)].map(e => e.getBoundingClientRect());
  const low = name => Math.max(...box(name).map(b => b.bottom)), top = name => Math.min(...box(name).map(b => b.top));
  return [top('.annotation-text') - low('figcaption, .gtitle-subtitle'), top('.legend') - low('.xtick text')];
})()"""


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3, 12])
def test_labels_of_folds_keep_away_from_the_words_around_them(browser, tmp_path, n):
    """In a report, and where a notebook is read."""
    ends = [datetime(2019, 3, 1) + timedelta(days=400 + 200 * k) for k in range(n + 1)]
    spans = {"train_end": ends[:-1], "test_start": ends[:-1], "test_end": ends[1:]}
    figure = folds_figure(
        pl.DataFrame({"fold": range(n), "train_start": [datetime(2019, 3, 1)] * n, **spans, "ic": [0.04] * n})
    )
    drawn = new_output("display_data", {"application/vnd.plotly.v1+json": json.loads(figure.to_json())})
    report = write_report(new_notebook(cells=[new_code_cell("x", outputs=[drawn])]), tmp_path / "folds.html")
    figure.write_html(read := tmp_path / "read.html")
    for page in (report, read):
        for width in (1200, 500):
            with Visit(browser, page, width) as visit:
                visit.wait("document.querySelector('.annotation-text')")
                apart = visit.page.evaluate(APART)
                assert min(apart) > 0 and max(apart) < 60, (page.name, width, apart)


@pytest.mark.slow
def test_light_dark_and_paper(browser, reports, tmp_path):
    background = """(layout => [getComputedStyle(document.body).backgroundColor, layout.paper_bgcolor, layout.width])(
      document.querySelector('.plot')._fullLayout)"""
    with Visit(browser, reports["research"], scheme="dark") as visit:
        assert visit.page.evaluate(background)[:2] == ["rgb(21, 24, 29)", "#15181d"]
        visit.page.emulate_media(color_scheme="light")
        visit.wait("document.querySelector('.plot')._fullLayout.paper_bgcolor === '#ffffff'")
        visit.page.emulate_media(color_scheme="dark")
        visit.wait("document.querySelector('.plot')._fullLayout.paper_bgcolor === '#15181d'")
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert visit.page.evaluate(background)[1:] == ["#ffffff", 670]
        visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
        visit.wait("document.querySelector('.plot')._fullLayout.width > 800")
        printed = visit.page.pdf(path=str(tmp_path / "report.pdf"), prefer_css_page_size=True)
    assert printed[:5] == b"%PDF-"
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_code_and_not_too_large(reports, name):
    html = reports[name].read_text()
    assert len(html.encode()) < 2_000_000  # nearly all of it is the script that draws
    body = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    for cell in notebook(name).cells:
        if cell.cell_type == "code":
            assert not [line for line in cell.source.splitlines() if len(line) > 25 and line.strip() in body]
    assert "http://" not in body.replace("http://www.w3.org/2000/svg", "") and "https://" not in body
    assert body.index('class="output summary"') < body.index("<h2")


def test_templates_are_kept_small_and_with_their_outputs():
    for name in TEMPLATES:
        nb, size = notebook(name), (shipped("templates") / f"{name}.ipynb").stat().st_size
        assert size < 250_000
        assert (
            sum("parameters" in c.metadata.get("tags", []) for c in nb.cells)
            == sum("summary" in c.metadata.get("tags", []) for c in nb.cells)
            == 1
        )
        assert not [o for c in nb.cells for o in c.get("outputs", []) if o.output_type in ("error", "stream")]


def broken(message: str = "no <rows>") -> nbformat.NotebookNode:
    error = new_output("error", ename="DataError", evalue=message, traceback=["\x1b[31mDataError\x1b[0m: " + message])
    notice = new_markdown_cell(
        "An Exception was encountered at In [2]", metadata={"tags": ["papermill-error-cell-tag"]}
    )
    return new_notebook(
        cells=[
            new_markdown_cell("# Study\n\n> A promise"),
            notice,
            new_code_cell("load()", outputs=[error]),
            new_markdown_cell("## Never reached"),
            new_code_cell("never()"),
        ]
    )


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (
            "failed",
            {"step": "model", "cell": 7, "type": "DataError", "message": "no <rows>", "traceback": []},
            ["This run failed in the step “model”, cell 7.", "DataError: no &lt;rows&gt;"],
        ),
        (
            "killed",
            {"step": "road", "cell": None, "type": "killed", "message": "the kernel died: SIGKILL", "traceback": []},
            ["This run was killed in the step “road”.", "the kernel died: SIGKILL"],
        ),
        (
            "timeout",
            {"step": "", "cell": None, "type": "timeout", "message": "600 s", "traceback": []},
            ["This run ran out of time.", "600 s"],
        ),
        ("out of memory", None, ["This run ran out of memory."]),
        ("cancelled", None, ["This run was cancelled."]),
        ("abandoned", None, ["This run was abandoned."]),
        ("something new", None, ["This run something new."]),
    ],
)
def test_a_run_that_did_not_succeed_says_so_first(status, error, expected):
    html = render_report(broken(), RUN | {"status": status, "error": error})
    notice = html[html.index('<section class="failure"') : html.index("</section>")]
    for text in expected:
        assert text in notice
    assert (
        "<rows>" not in html
        and "An Exception was encountered" not in html
        and "load()" not in html
        and "Never reached" not in html
    )
    assert html.index('class="failure"') < html.index("Here the run failed.")


def test_an_error_without_a_manifest_is_found_in_the_notebook():
    assert failure(None, broken())["message"] == "DataError: no <rows>"
    assert failure(None, new_notebook()) is None
    assert made(None) == {}


def test_words_cannot_become_scripts():
    hostile = "</script><script>alert(1)</script>"
    figure = {"data": [{"type": "scatter", "y": [1], "name": hostile}], "layout": {"title": {"text": hostile}}}
    cells = [
        new_markdown_cell("# " + hostile),
        new_code_cell("x", outputs=[new_output("display_data", {"application/vnd.plotly.v1+json": figure})]),
    ]
    run = RUN | {
        "inputs": {"parameters": {"dataset": hostile}},
        "status": "failed",
        "error": {"type": "X", "message": hostile, "step": hostile, "cell": 1},
    }
    assert "<script>alert" not in render_report(new_notebook(cells=cells), run)


def test_the_same_notebook_gives_the_same_report():
    assert render_report(notebook("ingest"), RUN) == render_report(notebook("ingest"), RUN)
