"""Who gets a dashboard: real servers, asked as browsers, strangers and pages of strangers ask."""

import contextlib
import functools
import http.server
import json
import re
import secrets
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from dashboard import ALGO, CHROMIUM, Server, browser, command, environment, leave
from support.servers import free_port, listens
from support.waiting import let_pass, until

pytestmark = [pytest.mark.slow, pytest.mark.browser]
needs_chromium = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine")
OPENED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class _Straight(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, text and cookie of an answer; nothing is followed."""
    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.build_opener(_Straight).open(request, timeout=60) as answer:
            cookie = answer.headers.get("Set-Cookie") or ""
            return answer.status, answer.read().decode(errors="replace"), cookie
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode(errors="replace"), refused.headers.get("Set-Cookie") or ""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Without runs: the page says so, and costs a kernel nevertheless."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "settings.ini").touch()
    return folder


@pytest.fixture(scope="module")
def server(workspace) -> Iterator[Server]:
    with Server(workspace, "--idle", "5", "--kernels", "4", warm=1) as running:
        yield running


def key(server: Server) -> dict[str, str]:
    return {"Authorization": f"token {server.token}"}


def made(server: Server) -> int:
    """Kernels beyond those that wait, now that nothing more is on its way."""
    let_pass(3)  # longer than the delay with which the pool is filled
    return len(server.kernels()) - server.warm


def test_who_has_no_token_gets_neither_page_nor_kernel(server):
    server.settle()
    for headers in ({}, OPENED, {"Authorization": "token wrong"}, {"Cookie": "username-127-0-0-1=forged"}):
        status, page, cookie = ask(server.address, **headers)
        assert status == 403 and "token" in page and "algo dashboard" in page
        assert server.token not in page + cookie
    assert ask(f"{server.address}?token=wrong")[0] == 403
    assert ask(f"{server.address}?token=")[0] == 403
    assert made(server) == 0


def test_the_token_is_accepted_once_and_a_cookie_from_then_on(server):
    status, page, cookie = ask(server.url, **OPENED)
    assert status == 200 and 'http-equiv="refresh"' in page and server.token not in page
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and server.token not in cookie
    status, page, _ = ask(server.address, Cookie=cookie.split(";")[0], **OPENED)
    assert status == 200 and "There is no run to look at yet" in page


def test_kernels_and_their_sockets_are_for_who_has_the_token(server):
    _, page, cookie = ask(server.address, **key(server))
    kernel = re.search(r'"kernelId": "([^"]+)"', page)[1]
    known = {"Cookie": cookie.split(";")[0]}
    addresses = [f"{server.address}api/kernels/{kernel}", f"{server.address}api/kernels/{kernel}/channels"]
    for address in addresses:
        assert ask(address)[0] == ask(address, **UPGRADE)[0] == 403
        assert ask(address, **UPGRADE, **known, Origin="http://evil.example")[0] == 403
    assert ask(addresses[0], "DELETE")[0] == 403
    assert ask(f"{server.address}voila/api/shutdown/{kernel}", "POST")[0] == 403
    assert ask(addresses[0], **known)[0] == 200  # still there
    # what is not needed is not there
    for path in (f"voila/query/{kernel}", f"voila/execution/{kernel}", "login", "logout", "voila/files/x.png", "voila"):
        assert ask(server.address + path, **known)[0] == ask(server.address + path)[0] == 404
    assert ask(f"{server.address}voila/api/shutdown/{kernel}", "POST", **known)[0] == 204


def test_twelve_images_of_another_page_make_no_kernel(server):
    cookie = {"Cookie": ask(server.url, **OPENED)[2].split(";")[0]}
    server.settle()
    asked = [{}, cookie, key(server), {**cookie, "Sec-Fetch-Site": "same-site"}]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: ask(server.address, **{**IMAGE, **asked[i % 4]}), range(12)))
    assert {status for status, *_ in answers} == {403}
    assert made(server) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {**OPENED, "Sec-Fetch-Dest": "iframe"},
        {**OPENED, "Sec-Fetch-Site": "cross-site"},  # a link elsewhere: only with the token
        {**OPENED, "Sec-Fetch-Site": "same-site"},  # another port of this machine
        {**OPENED, "Sec-Purpose": "prefetch;prerender"},
        {**IMAGE, "Sec-Fetch-Site": "same-origin"},
        {**IMAGE, "Sec-Fetch-Dest": "script"},
        {**IMAGE, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_other_pages_and_hosts_are_refused_whatever_they_know(server, headers):
    assert ask(server.address, **key(server), **headers)[0] == 403


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1:8866", True), ("localhost:9", True), ("[::1]:8866", True), ("127.1.2.3", True), ("a]b", False)]
    + [(name, False) for name in ("evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "", "[::1")],
)
def test_names_of_this_machine(host, local):
    from algo_research.cli.doors import is_local

    assert is_local(host) is local


def test_a_link_elsewhere_may_bring_the_token(server):
    assert ask(server.url, **{**OPENED, "Sec-Fetch-Site": "cross-site"})[0] == 200


@pytest.mark.parametrize("more", ["template=lab", "theme=dark", "token=x&template=lab", "a=1", "Template=lab"])
def test_what_is_unknown_in_the_address_is_refused(server, more):
    status, page, _ = ask(f"{server.address}?{more}", **key(server))
    assert status == 400 and "Only `token` is allowed" in page
    assert (
        ask(f"{server.address}?<script>alert(1)</script>=1".replace("<", "%3C"), **key(server))[1].count("<script") == 0
    )


def test_files_of_the_package_are_served(server):
    for name in ("dashboard.css", "plotly.min.js", "page.js"):
        assert ask(f"{server.address}voila/templates/algo/static/{name}")[0] == 200
    for path in ("algo/static/../../../../voila.json", "algo/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/voila.json", "x"):
        status, text, _ = ask(f"{server.address}voila/templates/{path}")
        assert status >= 400 and server.token not in text


def test_the_page_has_a_policy_and_no_script_stands_in_it(server):
    with urllib.request.urlopen(server.request(), timeout=60) as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    told = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert told["default-src"] == told["base-uri"] == told["form-action"] == told["frame-ancestors"] == "'none'"
    assert told["script-src"] == "'self' blob:" and told["connect-src"] == "'self'"
    scripts = re.findall(r"<script([^>]*)>", page)
    assert scripts and all("src=" in attributes or "json" in attributes for attributes in scripts)


def test_when_all_kernels_are_taken_a_page_waits_and_is_told(workspace):
    with Server(workspace, "--idle", "600", "--kernels", "2", warm=1) as server:
        pages = [ask(server.address, **key(server)) for _ in range(2)]
        assert [status for status, *_ in pages] == [200, 200]
        status, page, _ = ask(server.address, **key(server))
        assert status == 503 and "All 2 kernels are busy" in page and 'http-equiv="refresh"' in page
        with ThreadPoolExecutor(12) as pool:
            waiting = [pool.submit(ask, server.address, **key(server)) for _ in range(12)]
            let_pass(2)
            assert len(server.kernels()) == 2 and not any(answer.done() for answer in waiting)
            kernel = re.search(r'"kernelId": "([^"]+)"', pages[0][1])[1]
            assert ask(f"{server.address}voila/api/shutdown/{kernel}", "POST", **key(server))[0] == 204
            answers = [answer.result()[0] for answer in waiting]
        assert sorted(answers) == [200, *[503] * 11]  # one was first in line
        assert len(server.kernels()) == 2


def test_who_hangs_up_while_waiting_takes_no_kernel(workspace):
    with Server(workspace, "--idle", "600", "--kernels", "1", warm=1) as server:
        first = ask(server.address, **key(server))[1]
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port)) as hasty:
                told = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: token {server.token}\r\n\r\n"
                hasty.sendall(told.encode())
        kernel = re.search(r'"kernelId": "([^"]+)"', first)[1]
        assert ask(f"{server.address}voila/api/shutdown/{kernel}", "POST", **key(server))[0] == 204
        assert ask(server.address, **key(server))[0] == 200


def descriptors(server: Server) -> int:
    (voila,) = [p for p in psutil.Process(server.process.pid).children() if "algo_research.cli.doors" in command(p)]
    return voila.num_fds()


@needs_chromium
@pytest.mark.parametrize("pages", [6, pytest.param(20, marks=pytest.mark.long)])
def test_pages_leave_no_open_files(workspace, pages):
    with Server(workspace, "--idle", "600", "--kernels", "8", warm=1) as server, browser() as chromium:
        for turn in range(pages + 1):
            page = chromium.new_page()
            page.goto(server.url, wait_until="commit")
            page.wait_for_selector(".algo.live .empty", timeout=60_000)
            leave(page)
            until(lambda: len(server.kernels()) <= 2, 60)
            if turn == 0:
                assert server.settle(60) == 1
                begun = descriptors(server)
        assert server.settle(60) == 1
        until(lambda: descriptors(server) <= begun + 4, 30)


@needs_chromium
def test_pages_of_a_stranger_on_this_machine_make_no_kernel(workspace, tmp_path):
    """A browser that holds the cookie, on a page that asks in every way a page can."""
    with Server(workspace, "--idle", "600", "--kernels", "8", warm=1) as server, browser() as chromium:
        there = server.address
        (tmp_path / "index.html").write_text(
            "".join(f'<img src="{there}?{i}"><img src="{there}">' for i in range(12))
            + f'<iframe src="{there}"></iframe><script src="{there}"></script><link rel=stylesheet href="{there}">'
            f'<object data="{there}"></object><embed src="{there}"><link rel=prefetch href="{there}">'
            f'<script>fetch("{there}", {{mode: "no-cors", credentials: "include"}});'
            f'navigator.sendBeacon("{there}"); new WebSocket("{there.replace("http", "ws")}api/kernels/x/channels");'
            "</script>"
        )
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
        context = chromium.new_context()
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector(".algo.live .empty")
        assert page.url == there  # the token is gone from the address
        until(lambda: len(server.kernels()) == 2, 30)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as evil:
            threading.Thread(target=evil.serve_forever, daemon=True).start()
            stranger = context.new_page()
            for host in ("127.0.0.1", "localhost"):
                stranger.goto(f"http://{host}:{evil.server_port}/")
                stranger.wait_for_timeout(1500)  # a real sleep: what must not happen has the time to
            stranger.evaluate(f"setTimeout(() => location.href = '{there}')")
            stranger.wait_for_selector("text=another page")
            assert len(server.kernels()) == 2
            stranger.click("a")  # the owner's own click, on a page of this server
            stranger.wait_for_selector(".algo.live .empty")
            evil.shutdown()


def start(workspace: Path, *options: str, **env: str) -> tuple[subprocess.Popen, int]:
    port = free_port()
    words = [*ALGO, "dashboard", "--warm", "0", "--port", str(port), *options]
    told = {**environment(), **env}
    started = subprocess.Popen(words, cwd=workspace, env=told, stderr=subprocess.PIPE, text=True)
    until(lambda: listens(port), 90)
    return started, port


def words_of(started: subprocess.Popen) -> str:
    """Every command line that other users see."""
    parent = psutil.Process(started.pid)
    return "\n".join(command(p) for p in [parent, *parent.children(recursive=True)])


def test_a_random_token_is_printed_and_in_no_command_line_and_the_browser_is_led_there(workspace, tmp_path):
    shown = tmp_path / "shown"
    program = tmp_path / "browser"
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npathlib.Path({str(shown)!r}).write_text(sys.argv[1])\n"
    )
    program.chmod(0o755)
    started, port = start(workspace, BROWSER=f"{program} %s")
    try:
        page = until(lambda: shown.exists() and shown.read_text(), 60)
        lines = iter(started.stderr)
        token = next(m[1] for line in lines if (m := re.search(rf"127\.0\.0\.1:{port}/\?token=(\w+)", line)))
        assert len(token) >= 32 and token not in page and token not in words_of(started)
        file = Path(page.removeprefix("file://"))
        assert f"/?token={token}" in file.read_text() and file.stat().st_mode & 0o77 == 0
        assert all(p.stat().st_mode & 0o77 == 0 for p in (file.parent, file.parent / "voila.json"))
        assert ask(f"http://127.0.0.1:{port}/?token={token}")[0] == 200
    finally:
        started.terminate()
        started.communicate(timeout=30)


def test_a_token_of_ones_own_comes_from_a_file_and_is_not_shown(workspace, tmp_path):
    token = secrets.token_hex(8)
    (tmp_path / "token").write_text(f"{token}\n")
    started, port = start(workspace, "--no-browser", JUPYTER_TOKEN_FILE=str(tmp_path / "token"))
    try:
        assert ask(f"http://127.0.0.1:{port}/?token={token}")[0] == 200
        assert token not in words_of(started)
        (voila,) = [p for p in psutil.Process(started.pid).children() if "algo_research.cli.doors" in command(p)]
        assert token not in json.dumps(voila.environ())
    finally:
        started.terminate()
        assert token not in started.communicate(timeout=30)[1]


@pytest.mark.parametrize("told", ["empty", "nowhere"])
def test_a_dashboard_without_a_token_is_refused(workspace, tmp_path, told):
    (tmp_path / "empty").touch()
    env = {**environment(), "JUPYTER_TOKEN_FILE": str(tmp_path / told)}
    done = subprocess.run(
        [*ALGO, "dashboard", "--no-browser"], cwd=workspace, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "JUPYTER_TOKEN_FILE" in done.stderr and "Traceback" not in done.stderr


def test_the_channels_of_a_kernel_are_no_ports(server):
    """One port is left: ipykernel's own, for what forked children print, which cannot be listened to."""
    ask(server.address, **key(server))
    for kernel in server.kernels():
        with contextlib.suppress(psutil.NoSuchProcess):
            assert len([c for c in kernel.net_connections("tcp") if c.status == psutil.CONN_LISTEN]) <= 1
