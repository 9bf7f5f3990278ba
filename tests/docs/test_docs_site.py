"""The documentation site: its checks can fail, and it works in a browser without a network."""

import functools
import importlib.util
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def docs():
    spec = importlib.util.spec_from_file_location("tools_docs", ROOT / "tools/docs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path):
    """Two pages without a fault."""
    (tmp_path / "a").mkdir()
    (tmp_path / "style.css").write_text("body { background: url(picture.png) }")
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "own.js").write_text('fetch("index.html"); const text = "see https://example.org";')
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="style.css"><h1 id="top">x</h1><a href="a/page.html#part">y</a><a '
        'href="#top">up</a><a href="https://example.org">out</a>'
        '<img src="picture.png"><script src="own.js"></script>'
    )
    (tmp_path / "a/page.html").write_text(
        '<h2 id="part">z</h2><a href="../index.html">home</a><a href="..">home</a><a href="mailto:x@example.org">m</a>'
    )
    return tmp_path


def test_a_sound_site_has_no_findings(docs, site):
    assert docs.check_site(site) == []


PLANTED = {
    '<a href="gone.html">': "gone.html leads nowhere",
    '<a href="a/page.html#gone">': "a/page.html#gone leads to a place that is not in page.html",
    '<a href="#gone">': "#gone leads to a place that is not in index.html",
    '<a href="../../etc/passwd">': "leads nowhere",
    '<a href="/index.html">': "starts at the server's root",
    '<img src="gone.png">': "gone.png leads nowhere",
    '<script src="https://cdn.example.org/x.js"></script>': "loads https://cdn.example.org/x.js from elsewhere",
    '<script src="//cdn.example.org/x.js"></script>': "loads //cdn.example.org/x.js from elsewhere",
    '<link rel="stylesheet" href="https://example.org/x.css">': "loads https://example.org/x.css",
    '<link rel="preconnect" href="https://example.org">': "loads https://example.org",
    '<img srcset="picture.png 1x, https://example.org/big.png 2x">': "loads https://example.org/big.png",
    '<iframe src="https://example.org"></iframe>': "loads https://example.org",
    '<p style="background: url(https://example.org/p.png)">': "loads https://example.org/p.png",
    "<style>@import 'https://example.org/f.css';</style>": "loads https://example.org/f.css",
    '<script>fetch("https://example.org/data.json")</script>': "loads https://example.org/data.json",
    '<script type="module">import "./own.js"; import x from '
    '"https://example.org/m.js"</script>': "loads https://example.org/m.js",
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found(docs, site, planted):
    page = site / "index.html"
    page.write_text(page.read_text() + planted)
    found = docs.check_site(site)
    assert len(found) == 1 and found[0].startswith("index.html: ") and PLANTED[planted] in found[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("style.css", "@font-face { src: url('https://fonts.example.org/f.woff2') }"),
        ("own.js", 'x.src = "https://example.org/y.js"'),
    ],
)
def test_files_of_the_site_are_read_too(docs, site, name, text):
    (site / name).write_text(text)
    assert len(docs.check_site(site)) == 1


SOURCE = """
@dataclass(frozen=True)
class Box:
    "Holds things."
    size: int = 1   # how many
    _secret = 2

    @property
    def full(self) -> bool:
        "Nothing more goes in."
        return True

def fill(
    box: Box, # what is filled
    n: int,   # with so many
) -> Box:     # the same box
    "Fill it."
    return box

@patch
def shake(self: Box) -> None: "Shake it."

def _private(): pass
"""


def test_entries_come_from_the_source(docs):
    names = {n.name: n for n in docs.names_of(SOURCE, "core.boxes")}
    assert list(names) == ["Box", "fill", "Box.shake"]
    box, fill = docs.explain(names["Box"], SOURCE), docs.explain(names["fill"], SOURCE)
    assert "size: int = 1   # how many" in box and "_secret" not in box and "`.full`: Nothing more goes in." in box
    assert "n: int,   # with so many\n) -> Box:" in fill and "return box" not in fill and "Fill it." in fill
    assert docs.explain(names["Box.shake"], SOURCE).count("def shake(self: Box) -> None:") == 1
    assert len({n.label for n in names.values()}) == 3


def test_links_go_to_names_only(docs):
    names = docs.names_of("def fill_box(): 'x'\ndef fill(): 'y'\nclass Box: 'z'", "core.boxes")
    text = docs.to_markdown(
        "# `fill_box`\n\n> a promise\n\n`fill_box` and `fill` and [`Box`](x.md)\n\n```python\n`Box`\n```\n\n`Box`",
        docs.linker(names),
    )
    assert "# `fill_box`\n" in text and "{.lead}\na promise" in text
    assert "[`fill_box`](#api-core-boxes-fill-box) and `fill` and [`Box`](x.md)" in text  # `fill` may be any word
    assert "```python\n`Box`\n```" in text and text.endswith("[`Box`](#api-class-core-boxes-box)")


def test_a_figure_cannot_end_its_own_script(docs):
    assert "</script>" not in docs.figure_html({"data": [{"name": "</script><b>"}]}).removesuffix("</script></div>")


def test_another_folder_is_not_overwritten(docs, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit, match="holds no site"):
        docs._mirror(tmp_path, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def changes() -> str:
    """What git sees where a build could leave something."""
    return subprocess.run(
        ["git", "status", "--porcelain", "--", "docs", "nbs", "jupyter_execute", "_proc", "_docs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The real site, built as a user builds it, behind a server of this machine."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    folder = tmp_path_factory.mktemp("docs")
    before = changes()
    done = subprocess.run(
        [sys.executable, ROOT / "tools/docs.py", "--out", folder / "site", "--work", folder / "work"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert changes() == before

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder / "site"))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.browser
@pytest.mark.slow
def test_the_site_in_a_browser(served):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        for width, scheme in ((1280, "light"), (420, "dark")):
            visit(
                browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page(),
                served,
                width,
                scheme,
            )
        browser.close()


SEARCHES = {
    "provider": "howto/provider",
    "panel": "howto/panel",
    "several+symbols": "howto/panel",
    "many+machines": "howto/machines",
    "strategy": "howto/strategy",
    "reproduce": "howto/reproduce",
    "secrets": "howto/secrets",
    "dashboard": "howto/dashboard",
}  # what somebody looks for, and the guide that must be among the first three, all of them before the reference


# results come one after the other, and are counted at the end
FOUND = "/found \\d+ page/.test(document.querySelector('#search-results .search-summary')?.innerText ?? '')"


def visit(page, served: str, width: int, scheme: str) -> None:
    """Open home, a tutorial, a page with plotly figures and the search, and see that nothing is wrong."""
    said, left = [], []

    def guard(route):
        if route.request.url.startswith((served, "data:", "blob:")):
            return route.continue_()
        left.append(route.request.url)
        return route.abort()

    def opened(path: str) -> None:
        page.goto(f"{served}/{path}", wait_until="load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"

    page.route("**/*", guard)
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: said.append(str(e)))

    opened("index.html")
    assert page.locator("figure.diagram svg").bounding_box()["height"] > 60
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert not page.locator("script[src*=plotly]").count()  # only pages with figures load it

    opened("tutorials/00_first_run.html")
    picture = page.locator(".cell_output img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.cell_output img').naturalWidth > 100")

    opened("api/views/performance.html")
    page.wait_for_function(
        "(f => f.length > 0 && f.every(x => x.dataset.drawn))([...document.querySelectorAll('.plotly-figure')])"
    )
    for figure in page.locator(".plotly-figure").all():
        drawn, column = figure.locator(".main-svg").first.bounding_box(), figure.bounding_box()
        assert drawn["height"] > 100 and 200 < drawn["width"] <= column["width"] + 1  # fitted, not clipped

    opened("search.html?q=bootstrap")
    page.wait_for_function(FOUND)
    assert any("ootstrap" in text for text in page.locator("#search-results li a").all_inner_texts())
    for words, guide in SEARCHES.items():
        opened(f"search.html?q={words}")
        page.wait_for_function(FOUND)
        links = page.locator("#search-results li a").all()
        found = [link.get_attribute("href").partition(".html")[0] for link in links]
        assert guide in found[:3] and found[0].startswith("howto/"), (words, found[:5])
    assert not said and not left
