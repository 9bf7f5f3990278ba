"""Markup planted in every field of every file that somebody else can hand over, in a browser and on a terminal.

Each plant says its number when it runs (`window.__pwned`), and calls a server that counts. Nothing may run, nothing may
be asked of that server, no click on what was planted may lead away, and a terminal must show every character.
"""

import base64
import http.server
import io
import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from support.command import algo
from support.journey import KERNEL

EVERY = [  # what a page could take for its own; {js} runs, {url} is the server that counts
    "<script>{js}</script>",
    "</script><script>{js}</script>",
    "\"'><script>{js}</script>",
    "--><script>{js}</script><!--",
    "</style><script>{js}</script>",
    "</title><script>{js}</script>",
    '<img src=x onerror="{js}">',
    "\"'><img src=x onerror={js}>",
    '" onmouseover="{js}" autofocus onfocus="{js}" x="',
    '<svg onload="{js}"></svg>',
    "<svg><script>{js}</script></svg>",
    '<svg><animate onbegin="{js}" attributeName="x" dur="1s"></svg>',
    '<math><mtext><table><mglyph><style><img src=x onerror="{js}"></style></mglyph></table></mtext></math>',
    '<noscript><p title="</noscript><img src=x onerror={js}>">',
    '<details open ontoggle="{js}">x</details>',
    '<input autofocus onfocus="{js}">',
    '<video><source onerror="{js}"></video>',
    '<audio src="{url}" onerror="{js}"></audio>',
    '<iframe srcdoc="<script>parent.eval(`{js}`)</script>"></iframe>',
    '<iframe src="javascript:parent.eval(`{js}`)"></iframe>',
    '<iframe src="{url}"></iframe>',
    '<object data="{url}"></object><embed src="{url}">',
    '<a href="javascript:{js}">x</a>',
    '<a href=" java\nscript:{js}">x</a>',
    '<a href="{url}">x</a>',
    '<a href="#" ping="{url}">x</a>',
    '<svg><a xlink:href="javascript:{js}"><text y="9">x</text></a></svg>',
    '<form action="{url}"><input name="x"><button>x</button></form>',
    '<form><button formaction="javascript:{js}">x</button></form>',
    '<base href="{url}"><a href="x">x</a>',
    '<meta http-equiv="refresh" content="0;url={url}">',
    '<link rel="stylesheet" href="{url}"><link rel="preload" as="image" href="{url}">',
    "<style>@import '{url}'; body {{background: url({url}); display: none}}</style>",
    '<p style="background:url({url});position:fixed;inset:0">x</p>',
    '<img src="{url}" srcset="{url} 2x">',
    '<div id="plotly">x</div><div id="looks">x</div><div class="plot"></div><p>x</p>',
    "[x](javascript:{js})",
    "[x]({url})",
    "![x]({url})",
    "<{url}>",
    "{{{{ cycler.__init__.__globals__ }}}} {{% raw %}}",
    "<b style='font-size:99px'>x</b>",
]
LINK = '<a href="{url}">x</a>'
# What an author may write in prose: these lead away.
AUTHORS = ("[x]({url})", LINK, "<{url}>", '<a href="#" ping="{url}">x</a>')
PWNED = "window.__pwned === undefined && document.title !== 'pwned'"
CLICK = """() => [...document.querySelectorAll('a, button, input, summary')].forEach((e) => {
    for (const kind of ['mouseover', 'mousedown', 'mouseup', 'click'])
        e.dispatchEvent(new MouseEvent(kind, {bubbles: true, cancelable: true, view: window}));
})"""
# What may stand in a page at all: the first wall.
FOUND = """() => [...document.querySelectorAll('*')].filter((e) =>
    /^(iframe|object|embed|form|base|link|audio|video|math|noscript)$/i.test(e.localName)
        && !e.matches('head > *, body > noscript')
    || (e.localName === 'meta' && !e.matches('head > *'))
    || (e.localName === 'script' && !e.matches(':is(head, body) > script, figure > script[type="application/json"]'))
    || [...e.attributes].some((a) => /^on/i.test(a.name) || a.name === 'ping' || (
        /href$|^(src|srcset|srcdoc|action|formaction|data|style|background|poster)$/.test(a.name)
        && !a.value.startsWith('#') && /javascript:|127\\.0\\.0\\.1/i.test(a.value.replace(/\\s/g, ''))))
).map((e) => e.outerHTML.slice(0, 200))"""


class Listener(http.server.ThreadingHTTPServer):
    """Serves the pages it is given, and notes whatever else it is asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.hits: list[str] = []
        self.pages: dict[str, tuple[str, str, dict[str, str]]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, text, headers = self.server.pages.get(self.path, ("text/html", "", {}))
        if self.path not in self.server.pages:
            self.server.hits.append(self.path)
        self.send_response(200)
        for name, value in {"Content-Type": f"{kind}; charset=utf-8", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def listener():
    with Listener() as running:
        yield running
        running.shutdown()


class Plants:
    """Numbered plants: each call gives the next kind, or the one that is asked for."""

    def __init__(self, url: str, kinds: list[str] = EVERY):
        self.url, self.kinds, self.numbers = url, kinds, count(1)
        self.made = 0

    def __call__(self, kind: str | None = None) -> str:
        number = next(self.numbers)
        self.made = number
        url = f"{self.url}/hit-{number}"
        js = f"(window.__pwned=window.__pwned||[]).push({number});document.title=`pwned`;new Image().src=`{url}`"
        return (kind or self.kinds[number % len(self.kinds)]).format(js=js, url=url)

    def every(self, without: tuple[str, ...] = ()) -> list[str]:
        return [self(kind) for kind in self.kinds if kind not in without]


def figure(plant) -> dict:
    """Texts of every sort that plotly draws."""
    texts = plant.every()
    trace = {
        "type": "scatter",
        "mode": "lines+markers+text",
        "x": texts,
        "y": list(range(len(texts))),
        "text": texts,
        "name": plant(LINK),
        "hovertemplate": plant('<a href="javascript:{js}">x</a>'),
    }
    axis = {"title": {"text": plant(LINK)}, "ticktext": texts, "tickvals": texts}
    note = {"text": plant('<a href="{url}" target="_blank">x</a>'), "x": 0.5, "y": 0.5, "showarrow": False}
    layout = {
        "title": {"text": plant(), "subtitle": {"text": plant()}},
        "xaxis": axis,
        "yaxis": {"title": {"text": plant(LINK)}},
        "annotations": [note],
        "showlegend": True,
        "legend": {"title": {"text": plant(LINK)}},
        "images": [{"source": plant("{url}"), "x": 0, "y": 1, "sizex": 1, "sizey": 1}],
    }
    return {"data": [trace], "layout": layout}


def hostile_notebook(plant):
    """Everything a notebook can hold."""
    picture = f"<svg xmlns='http://www.w3.org/2000/svg' onload='{plant('{js}')}'><script>{plant('{js}')}</script></svg>"
    outputs = [new_output("display_data", {"text/html": text}) for text in plant.every()]
    outputs += [new_output("display_data", {"text/markdown": text}) for text in plant.every()]
    outputs += [
        new_output("display_data", {"image/svg+xml": picture}),
        new_output("display_data", {"image/png": plant('"><script>{js}</script>')}),
        new_output("display_data", {"image/jpeg": "AA=="}, metadata={"image/jpeg": {"alt": plant(), "width": plant()}}),
        new_output("display_data", {"application/javascript": plant("{js}")}),
        new_output("display_data", {"text/latex": plant("<script>{js}</script>")}),
        new_output("display_data", {"text/vnd.mermaid": plant("<script>{js}</script>")}),
        new_output("display_data", {"text/html": plant(EVERY[0])}, metadata={"text/html": {"isolated": True}}),
        new_output("execute_result", {"text/plain": plant("<script>{js}</script>")}),
        new_output("stream", name="stdout", text="\n".join(plant.every())),
        new_output("stream", name="stderr", text=plant("<script>{js}</script>")),
        new_output("display_data", {"application/vnd.plotly.v1+json": figure(plant)}),
        new_output("error", ename=plant(), evalue=plant("<script>{js}</script>"), traceback=plant.every()),
    ]
    return new_notebook(
        cells=[
            new_markdown_cell(f"# {plant('<script>{js}</script>')}\n\n> {plant('<img src=x onerror={js}>')}"),
            *(new_markdown_cell(text) for text in plant.every(AUTHORS)),
            *(new_markdown_cell(f"## {text}") for text in plant.every(AUTHORS)),
            new_code_cell(plant(), outputs=outputs, metadata={"tags": [plant(), "summary"]}),
            new_code_cell("x", outputs=outputs[-2:-1]),
        ],
        metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {plant(): plant()}}, "title": plant()},
    )


def hostile_run(plant) -> dict:
    """A run.json with plants as every name and every value that is a text."""
    return {
        "schema": 2,
        "run_id": plant(),
        "template": plant(),
        "title": plant(),
        "status": plant(),
        "identity": plant(),
        "inputs": {
            "parameters": {"dataset": plant(), "strategy": plant(), plant(): plant.every()},
            "data": {plant(): plant()},
            "settings": {plant(): plant()},
            "runs": {plant(): plant()},
            "files": {plant(): plant()},
            "code": {plant(): plant() for _ in range(30)},
            "dependencies": {plant(): plant()},
            "seed": plant(),
            "ledger": plant(),
            "template": plant(),
        },
        "outputs": {plant(): plant()},
        "record": {"package": plant(), "git": plant(), "host": plant(), plant(): plant()},
        "steps": [{"name": plant(), "status": plant(), "seconds": 0.4}],
        "error": {key: plant() for key in ("step", "cell", "type", "message")} | {"traceback": plant.every()},
    }


class Look:
    """A page that was opened, with all that it did."""

    def __init__(self, browser, listener: Listener, url: str, ready: str = "true"):
        self.listener, self.url = listener, url
        listener.hits.clear()
        self.context = browser.new_context()
        self.page, self.moved = self.context.new_page(), []
        self.page.on("framenavigated", lambda frame: self.moved.append(frame.url))
        self.page.on("dialog", lambda dialog: dialog.dismiss())
        self.page.goto(url)
        for _ in range(400):
            if self.page.evaluate(ready):
                break
            self.page.wait_for_timeout(50)  # a real sleep: what a page would do comes later
        else:
            raise AssertionError(f"never so: {ready}")
        self.page.wait_for_timeout(500)  # a real sleep: handlers of what failed to load come later

    def quiet(self) -> None:
        """Nothing ran, nothing was asked, nothing leads away."""
        assert self.page.evaluate(PWNED), self.page.evaluate("[window.__pwned, document.title]")
        assert self.page.evaluate(FOUND) == []
        self.page.evaluate(CLICK)
        self.page.wait_for_timeout(500)  # a real sleep: what a page would do comes later
        assert self.page.evaluate(PWNED), self.page.evaluate("[window.__pwned, document.title]")
        assert {url.partition("#")[0] for url in self.moved} == {self.url}
        assert len(self.context.pages) == 1 and self.listener.hits == []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


DRAWN = "[...document.querySelectorAll('.plot')].every((p) => p.querySelector('svg'))"


@pytest.mark.slow
def test_a_report_runs_asks_and_leads_nowhere(browser, listener, tmp_path):
    from algo_research.runs.report import write_report

    plant = Plants(listener.url)
    page = write_report(hostile_notebook(plant), tmp_path / "report.html", hostile_run(plant))
    assert plant.made > 60
    with Look(browser, listener, page.as_uri(), DRAWN) as look:
        look.quiet()
        assert look.page.locator(".plot svg").count() > 0
        texts = look.page.evaluate("[...document.querySelectorAll('.plot text')].map((t) => t.textContent).join(' ')")
        assert "<a href" in texts  # a name that looks like a link is read as it is written


@pytest.mark.slow
def test_the_policy_of_a_report_is_a_wall_of_its_own(browser, listener, tmp_path):
    """Were everything planted in the page as it is, no script of it would run."""
    from algo_research.runs.report import write_report

    plant = Plants(listener.url)
    cell = new_code_cell("x", outputs=[new_output("display_data", {"application/vnd.plotly.v1+json": figure(plant)})])
    page = write_report(new_notebook(cells=[cell]), tmp_path / "report.html", None)
    # no policy forbids an order to reload; and two stop the script that draws: what follows is read as a comment
    unstoppable = [kind for kind in EVERY if "refresh" in kind or 'class="plot"' in kind or "<!--" in kind]
    raw = "".join(plant.every((*unstoppable, *AUTHORS)))
    page.write_text(page.read_text().replace("</main>", f"{raw}</main>"))
    with Look(browser, listener, page.as_uri(), DRAWN) as look:
        assert look.page.evaluate("window.__pwned === undefined")
        assert listener.hits == []
        look.page.evaluate("document.querySelectorAll('[href^=javascript]').forEach((e) => e.click())")
        look.page.evaluate("document.querySelectorAll('form').forEach((e) => e.submit())")
        look.page.wait_for_timeout(300)  # a real sleep: what a page would do comes later
        assert look.page.evaluate("window.__pwned === undefined") and listener.hits == []


def frames(plant, names: list[str]) -> dict[str, pl.DataFrame]:
    """Artifacts as a run keeps them, of strategies and symbols with such names."""
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    times = pl.datetime_range(begin, begin + timedelta(hours=199), "1h", time_unit="us", time_zone="UTC", eager=True)
    steps = pl.Series([0.001 if i % 3 else -0.0015 for i in range(200)])
    equity = pl.concat(
        pl.DataFrame({"name": [name] * 200, "ts": times, "equity": 1e5 * (1 + steps).cum_prod(), "return": steps})
        for name in names
    )
    fills = pl.concat(
        pl.DataFrame(
            {
                "name": [name] * 4,
                "ts": times[:4],
                "symbol": [plant() for _ in range(4)],
                "quantity": [1.0, -1.0, 1.0, -1.0],
                "price": [100.0, 101.0, 99.0, 103.0],
                "reference_price": [100.0, 101.0, 99.0, 103.0],
                "fee": [0.1] * 4,
                "slippage_cost": [0.0] * 4,
            }
        )
        for name in names
    )
    symbols = [plant() for _ in range(3)]
    positions = pl.DataFrame(
        {
            "ts": [t for t in times[:50] for _ in symbols],
            "symbol": symbols * 50,
            "quantity": [1.0] * 150,
            "exposure": [0.3] * 150,
        }
    )
    return {"equity": equity, "fills": fills, "positions": positions}


def foreign_run(reports: Path, plant, number: int = 0, id: str | None = None) -> Path:
    """A run as somebody else might hand it over."""
    folder = reports / "research" / (id or f"2026112{number}-040512-3f2a9c1{number}")
    (folder / "artifacts").mkdir(parents=True)
    strategy = plant(LINK)
    evidence = {"mean": 0.1, "sharpe": 1.0, "sharpe_se": 0.5, "confidence": 0.9, "pvalue": 0.1, "observations": 200}
    evidence |= {"years": 1.0, "bets": 30.0, "bets_statistic": 1.0, "bets_pvalue": 0.1, "sharpe_left": 0.4}
    verdict = {
        "strategy": strategy,
        "dataset": plant(),
        "currency": plant(),
        "periods_per_year": 8760.0,
        "initial_cash": 1e5,
        "edge": False,
        "level": 0.95,
        "sentence": plant(),
        "n_trials": 1,
        "n_effective": 1.0,
        "evidence": evidence,
        "costs_doubled": evidence,
        "one_bar_late": evidence,
        "notes": plant.every(),
        "hashes": {plant(): plant()},
    }
    (folder / "artifacts" / "verdict.json").write_text(json.dumps(verdict))
    for name, frame in frames(plant, [strategy, "matched_hold", plant(LINK), plant()]).items():
        frame.write_parquet(folder / "artifacts" / f"{name}.parquet")
    metrics = {
        "total_return": 0.1,
        "sharpe": 1.0,
        "sharpe_se": 0.5,
        "max_drawdown": -0.1,
        "costs_paid": 3.0,
        plant(): 1.0,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    run = hostile_run(plant) | {"status": "succeeded", "error": None, "run_id": folder.name, "template": "research"}
    run["record"] |= {"started": "2026-11-21T04:05:12+00:00", "seconds": 1.0, "told": {plant(): plant()}}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


PAGE = """<!DOCTYPE html><html><head><title>Dashboard</title><link rel="icon" href="data:,">
<script src="/plotly.min.js"></script></head><body><main>{first}</main><div id="place"></div>
<script type="module" src="/host.js"></script></body></html>"""
HOST = """import widget from "/dashboard.js";
const told = await (await fetch("/traits.json")).json();
const model = {get: (name) => told[name], on() {}, off() {}, set() {}, save_changes() {}, send() {}};
widget.render({model, el: document.getElementById("place")});
"""


def shown(browser, listener: Listener, dashboard, policy: str | None) -> Look:
    """A dashboard's first screen and widget, in the page's own script, with or without the server's policy."""
    import plotly

    from algo_research.runs.parameters import shipped

    traits = {name: getattr(dashboard, name) for name in dashboard.trait_names(sync=True) if not name.startswith("_")}
    plain = {name: value for name, value in traits.items() if isinstance(value, str | list | bool)}
    headers = {"Content-Security-Policy": policy} if policy else {}
    scripts = {
        "/dashboard.js": (shipped("pages") / "_assets" / "dashboard.js").read_text(),
        "/plotly.min.js": (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(),
        "/host.js": HOST,
    }
    listener.pages = {path: ("text/javascript", text, {}) for path, text in scripts.items()}
    listener.pages["/"] = ("text/html", PAGE.format(first=dashboard.first_screen()), headers)
    listener.pages["/traits.json"] = ("application/json", json.dumps(plain), {})
    return Look(browser, listener, f"{listener.url}/", "!!document.querySelector('.algo.live')?.dataset.turn")


def policy_of(wall: str) -> str | None:
    if wall != "the server's policy":
        return None
    from algo_research.cli.doors import POLICY

    return POLICY


@pytest.mark.slow
@pytest.mark.parametrize("wall", ["what comes into the page", "the server's policy"])
def test_the_performance_of_a_foreign_run(browser, listener, tmp_path, wall):
    from algo_research.dashboards.performance import PerformanceDashboard

    plant = Plants(listener.url)
    for number in range(3):
        foreign_run(tmp_path, plant, number)
    dashboard = PerformanceDashboard(tmp_path)
    assert len(dashboard.runs) == 3 and plant.made > 200
    for compare in ([], [run for run, _ in dashboard.runs[1:]]):
        dashboard.compare = compare
        assert len(json.loads(dashboard.view)["figures"]) >= 6, json.loads(dashboard.view)["cards"][:300]
        with shown(browser, listener, dashboard, policy_of(wall)) as look:
            look.quiet()


@pytest.mark.slow
@pytest.mark.parametrize("wall", ["what comes into the page", "the server's policy"])
def test_the_quality_of_foreign_data(browser, listener, tmp_path, wall):
    from algo_research.core.clock import SystemClock
    from algo_research.dashboards.data_quality import QualityDashboard
    from algo_research.data.market.bars import DatasetId
    from algo_research.data.quality.score import QualitySettings
    from algo_research.data.samples.synthetic import make_market
    from algo_research.data.stores.base import open_store

    plant, market = Plants(listener.url), make_market("garch", seed=3, bars=300, timeframe="1h")
    holed = market.bars.gather([*range(100), *range(140, 300)])
    spoilt = pl.concat(holed.with_columns(symbol=pl.lit(plant(kind))) for kind in [LINK, *EVERY[:11]]).sort(
        "symbol", "ts"
    )
    instrument = replace(market.instrument, quote=plant())
    dataset = replace(
        market, id=DatasetId("demo", "A", "1h"), bars=spoilt, notes=tuple(plant.every()), instrument=instrument
    )
    store = open_store("delta://store", tmp_path)
    store.write(dataset, reason=plant("<img src=x onerror={js}>"))
    dashboard = QualityDashboard(store, QualitySettings(), SystemClock())
    for finding in [value for value, _ in dashboard.findings[:2]]:
        dashboard.finding = finding
        assert len(json.loads(dashboard.view)["figures"]) == 4, json.loads(dashboard.view)["cards"][:300]
        with shown(browser, listener, dashboard, policy_of(wall)) as look:
            look.quiet()


def test_an_error_message_in_place_of_a_view():
    import traitlets

    from algo_research.dashboards.widget import Dashboard

    class Broken(Dashboard):
        controls = traitlets.List([{"kind": "check", "name": "shown", "text": "shown"}])
        shown = traitlets.Bool(True)

        def refresh(self):
            self.update_view()
            return True

        def compute_view(self):
            raise ValueError("<script>x</script>\u202e")

    cards = json.loads(Broken().view)["cards"]
    assert "<script" not in cards and "&lt;script&gt;" in cards


# The terminal

OBEYED = [
    "[/red]",
    "[bold]x",
    "[link=http://evil.example]x[/link]",
    "[blink][reverse]x",
    ":bomb:",
    "x\\",
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x9b31mx",
    "a\rb",
    "a\x08\x08b",
    "\u202egpj.exe",
    "\u2066x\u2069",
    "zero\u200bwidth",
    "\u2028line",
]
ALLOWED = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*")


def written(text: str) -> str:
    """As a terminal shows it."""
    return "".join(c if ALLOWED.fullmatch(c) else c.encode("unicode_escape").decode() for c in text)


def wide(folder: Path, *arguments: str, code: int | None = 0):
    """`algo` on a terminal that is wide enough for every cell of a table."""
    return algo(folder, *arguments, code=code, COLUMNS="9000")


def assert_shown(done, *texts: str) -> None:
    """Each text in full, and nothing that is obeyed."""
    told = done.stdout + done.stderr
    assert ALLOWED.fullmatch(told), [c for c in told if not ALLOWED.fullmatch(c)]
    squeezed = re.sub(r"\s", "", told)
    assert [text for text in texts if re.sub(r"\s", "", written(text)) not in squeezed] == []


class Signs:
    """Plants for a terminal: the same signs in every field, each with a number to be found by."""

    def __init__(self):
        self.numbers, self.made = count(1), []

    def __call__(self, *_):
        number = next(self.numbers)
        self.made.append(f"n{number}{OBEYED[number % len(OBEYED)]}n{number}")
        return self.made[-1]

    def every(self, *_):
        return [self() for _ in OBEYED]


def test_a_foreign_run_on_the_terminal(tmp_path):
    signs = Signs()
    folder = foreign_run(tmp_path / "reports", signs)
    verdict = json.loads((folder / "artifacts" / "verdict.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    done = wide(tmp_path, "show", folder.name, "--inputs")
    (metric,) = json.loads((folder / "metrics.json").read_text()).keys() & set(signs.made)
    assert_shown(done, verdict["sentence"], *verdict["notes"], metric, *verdict["hashes"])
    assert_shown(done, *(step["name"] for step in run["steps"]), *(step["status"] for step in run["steps"]))
    assert ALLOWED.fullmatch(wide(tmp_path, "runs").stdout)
    assert_shown(wide(tmp_path, "runs"), *(f"{k}={v}" for k, v in run["record"]["told"].items()))
    failed = run | {"status": "failed", "error": {k: signs() for k in ("step", "type", "message")} | {"cell": signs()}}
    (folder / "run.json").write_text(json.dumps(failed))
    told = [text for text in signs.every() if "\r" not in text]  # it would be read as the end of a line
    (folder / "log.txt").write_text("\n".join(told))
    assert_shown(wide(tmp_path, "show", folder.name, "--log"), *failed["error"].values(), *told)
    (folder / "run.json").write_text('{"schema": "\x1b[31m[/red]"}')
    assert_shown(wide(tmp_path, "runs"))
    assert_shown(wide(tmp_path, "show", folder.name, code=2))
    assert len(signs.made) > 60


def test_a_foreign_run_of_another_name_and_status(tmp_path):
    id = "20261121-040512-[red]\x1b[31m"
    folder = foreign_run(tmp_path / "reports", Signs(), id=id)
    run = json.loads((folder / "run.json").read_text()) | {"status": "[/red]\x1b]0;x\x07"}
    (folder / "run.json").write_text(json.dumps(run))
    assert_shown(wide(tmp_path, "runs"), id, "[/red]")
    assert_shown(wide(tmp_path, "show", "20261121"), id, "[/red]")
    assert_shown(wide(tmp_path, "runs", "--clean", "--yes"), id)


@pytest.mark.parametrize("sign", OBEYED)
def test_a_header_of_a_file(tmp_path, sign):
    """As a column that is left out, as one that is named, and in the name of the file."""
    head = f'date,open,high,low,close,volume,"{sign}"\n'
    rows = "".join(f"2024-01-{day:02},1,2,0.5,1.5,10,7\n" for day in range(1, 29))
    file = tmp_path / "bars.csv"
    file.write_bytes((head + rows).encode())
    assert_shown(wide(tmp_path, "data", "import", "bars.csv", "--id", "mine/X/1d"), f"columns not used: {sign}")
    named = wide(tmp_path, "data", "import", "bars.csv", "--id", "mine/Y/1d", "--column", f"volume={sign}", code=None)
    assert_shown(named)
    file.write_bytes((f'"{sign}",open,high,low,close\n' + "2024-01-01,1,2,0.5,1.5\n" * 9).encode())
    refused = wide(tmp_path, "data", "import", "bars.csv", "--id", "mine/Z/1d", code=2)
    assert_shown(refused)
    strange = tmp_path / f"a{sign.replace('/', '')}.csv"
    strange.write_bytes(head.encode())
    assert_shown(wide(tmp_path, "data", "import", strange.name, code=2))


def test_symbols_notes_and_reasons_of_a_dataset(tmp_path):
    from algo_research.data.market.bars import DatasetId
    from algo_research.data.samples.synthetic import make_market
    from algo_research.data.stores.base import open_store

    market, signs = make_market("garch", seed=3, bars=60, timeframe="1h"), Signs()
    holed = market.bars.gather([*range(20), *range(30, 60)])
    symbols = [f"{i}{sign}" for i, sign in enumerate(OBEYED)]
    bars = pl.concat(holed.with_columns(symbol=pl.lit(symbol)) for symbol in symbols).sort("symbol", "ts")
    (tmp_path / "settings.ini").touch()
    reason = "".join(OBEYED)
    store = open_store("delta://.algo/store", tmp_path)
    dataset = replace(market, id=DatasetId("demo", "A", "1h"), bars=bars, notes=tuple(signs.every()))
    store.write(dataset, reason=reason)
    shown = wide(tmp_path, "data", "show", "demo/A/1h")
    assert_shown(shown, *store.read("demo/A/1h").notes, *symbols)
    assert_shown(wide(tmp_path, "data", "list"))
    assert_shown(wide(tmp_path, "data", "history", "demo/A/1h"), reason)
    assert_shown(wide(tmp_path, "data", "check", "demo/A/1h", "--all"), *symbols)
    assert_shown(wide(tmp_path, "data", "check", "demo/A/1h", "--all", "--repair"))


@pytest.mark.parametrize("sign", [sign for sign in OBEYED if not sign.isascii() or not sign.isprintable()])
def test_what_is_logged_to_people(sign):
    from algo_research.core.logging import configure_logging, get_logger

    stream = io.StringIO()
    configure_logging(format="console", stream=stream)
    get_logger(dataset=f"n{sign}n").warning(f"n{sign}n")
    assert f"n{written(sign)}n" in stream.getvalue() and ALLOWED.fullmatch(stream.getvalue())


@pytest.mark.process
def test_an_unexpected_error_on_the_terminal():
    code = "from algo_research.cli.main import run\ndef fail(): raise ValueError('n\\x1b[31m\\u202en')\nrun(fail)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("Traceback")
    assert_shown(done, "ValueError: n\x1b[31m\u202en")


def test_settings_templates_and_components_of_a_workspace(tmp_path):
    import nbformat

    sign = "[/red][bold]x:bomb:"
    (tmp_path / "settings.ini").write_text(f"[workspace]\nreports = {sign}\n")
    assert_shown(wide(tmp_path, "settings"), sign)
    assert_shown(wide(tmp_path, "runs"), sign)
    (tmp_path / "templates").mkdir()
    title = "".join(sign for sign in OBEYED if not {"\r", "\u2028", "\x1b"} & set(sign)) + "\x1b[31m"
    for name in ("good", "[red]bad"):
        cells = [
            new_markdown_cell(f"# {title}\n> {title}"),
            new_code_cell(f"a: str = {title!r}  # [/red]\x1b[31m", metadata={"tags": ["parameters"]}),
        ]
        broken = [new_code_cell("1 +", metadata={"tags": ["parameters"]})]
        book = new_notebook(cells=cells if name == "good" else broken, metadata=KERNEL)
        nbformat.write(book, tmp_path / "templates" / f"{name}.ipynb")
    assert_shown(wide(tmp_path, "run"), title, "[red]bad")
    assert_shown(wide(tmp_path, "run", "good", "--parameters"), title, "[/red]")
    assert_shown(wide(tmp_path, "components", "templates"), title, "[red]bad")
    (tmp_path / "batch.yaml").write_text(f"template: good\nparameters:\n  a: {json.dumps(sign)}\n")
    assert_shown(wide(tmp_path, "batch", "batch.yaml", "--dry-run"))
    assert_shown(wide(tmp_path, "batch", "--dry-run", "no[/red]\x1b[31m.yaml", code=None))
    assert_shown(wide(tmp_path, "run", "no[/red]\x1b[31m", code=2))


# Markdown of the package's own


@pytest.mark.parametrize("kind", EVERY)
def test_markdown_shows_what_is_written(kind):
    """As nbconvert renders it, which knows no tables of which cells could be told apart otherwise."""
    from nbconvert.filters import markdown2html

    from algo_research.views.tables import markdown_table

    text = Plants("http://127.0.0.1:9")(kind).replace("\n", " ")
    html = markdown2html(markdown_table([text, "x"], [[f"`{text}`", text]]))
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html, re.S)
    assert len(cells) == 4


def test_markdown_of_settings_plans_and_runs(tmp_path):
    from nbconvert.filters import markdown2html

    from algo_research.runs.record import Run
    from algo_research.workspace.settings import load_settings

    plant = Plants("http://127.0.0.1:9")
    folder = foreign_run(tmp_path, plant)
    (tmp_path / "settings.ini").write_text(f"[workspace]\nreports = {plant('<img src=x onerror={js}>')}\n")
    for shown in (Run(folder), load_settings(tmp_path)):
        html = markdown2html(shown._repr_markdown_())
        assert set(re.findall(r"</?([a-z0-9]+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


def test_an_output_that_cannot_be_read_does_not_take_the_report(monkeypatch):
    from algo_research.runs import report

    odd = [{"data": 3, "layout": "x"}, {"layout": {"title": 3, "height": "<b>", "margin": 1}}, {}]
    outputs = [new_output("display_data", {"application/vnd.plotly.v1+json": figure}) for figure in odd]
    outputs.append(new_output("display_data", {"text/html": "<svg>" * 20_000}))
    book = new_notebook(cells=[new_code_cell("x", outputs=outputs), new_markdown_cell("The end.")])
    html = report.render_report(book)
    assert "The end." in html and html.count("<figure>") == 3 and "cannot be shown" not in html

    def too_deep(html: str):
        raise RecursionError

    monkeypatch.setattr(report, "clean_html", too_deep)
    assert "This output cannot be shown: RecursionError." in report.render_report(new_notebook(cells=book.cells[:1]))


def test_a_picture_is_kept_as_one():
    from algo_research.runs.markup import clean_html

    picture = f'<img alt="x" src="data:image/png;base64,{base64.b64encode(b"x").decode()}">'
    assert clean_html(picture) == picture and "src" not in clean_html('<img src="data:text/html;base64,AA==">')
