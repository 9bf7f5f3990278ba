"""The dashboard's server: Voila, with a keeper at each of its doors.

Voila serves a page to whoever asks, and each page costs a kernel. Here the doors are listed: what is not needed is not
served, and at each of the others a request is looked at before anything is done for it. It must be meant for this
machine, come from a page of this server (or be somebody who opens the page), and bring the token, or the cookie that
the token was exchanged for. Only files of the package are given to those without one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment
from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyterlab_server.themes_handler import ThemesHandler
from tornado import httputil, web
from traitlets import Float
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

PUBLIC = (TemplateStaticFileHandler, MultiStaticFileHandler)  # files of packages
OPEN = (*PUBLIC, FileFindHandler, ThemesHandler, KernelHandler, VoilaKernelWebsocketHandler, VoilaShutdownKernelHandler)
# No script of a page stands in it: they come from this server (the widget's as a blob), so none that data brought runs.
POLICY = (
    "default-src 'none'; script-src 'self' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ANSWER = Environment(autoescape=True).from_string(
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '{% if after is not none %}<meta http-equiv="refresh" content="{{ after }};url=./">{% endif %}<title>{{ title }}'
    "</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}"
    "</style></head><body><h1>{{ title }}</h1><p>{{ text }}</p>"
    '{% if link %}<p><a href="./">Open the dashboard</a></p>{% endif %}</body></html>'
)
LOCKED = "Open it with the address that `algo dashboard` printed: it carries a token, and this request has none."
ELSEWHERE = "It comes from another page. Open the dashboard with the address that `algo dashboard` printed."


def is_local(host: str) -> bool:
    """Whether a request was addressed to this machine by a name that nobody else can give to it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def refusal(request: httputil.HTTPServerRequest, page: bool) -> tuple[int, str] | None:
    """Status and reason when a request is not looked at any further, whoever brings it; None when it may pass."""
    told = request.headers
    if not is_local(request.host):
        return 403, "It was addressed to another host. Use http://127.0.0.1 and the port that was printed."
    if told.get("Origin", own := f"{request.protocol}://{request.host}") != own:
        return 403, ELSEWHERE
    if page:
        if unknown := sorted(set(request.arguments) - {"token"}):
            return 400, f"Unknown in the address: {', '.join(unknown)}. Only `token` is allowed."
        opened = (told.get("Sec-Fetch-Mode", "navigate"), told.get("Sec-Fetch-Dest", "document"))
        if opened != ("navigate", "document") or "Sec-Purpose" in told or "Purpose" in told:
            return 403, "The dashboard is a page: it is opened, and not fetched, framed or prepared."
    home = told.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
    # a link elsewhere, or the file that opened the browser, must bring the token itself: the cookie is not enough
    return None if home or (page and "token" in request.arguments) else (403, ELSEWHERE)


class Keeper(web.RequestHandler):
    """Stands before another handler, and lets through what `refusal` and the token let through."""

    page = public = False

    def _request_summary(self) -> str:
        """What a log says of a request: not its query, which may hold the token."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"

    async def prepare(self) -> None:
        """Answer what is refused; else do what the handler does."""
        if refused := refusal(self.request, self.page):
            return self.answer(*refused, link=self.page and refused[0] == 403)
        if not self.public:
            user = await ensure_async(self.settings["identity_provider"].get_user(self))
            if user is None:
                return self.answer(403, LOCKED)
            self._jupyter_current_user = user
        if self.page and "token" in self.request.arguments:  # it has been exchanged for a cookie
            return self.answer(200, "One moment.", title="Dashboard", after=0, link=True)
        prepared: Awaitable[None] | None = super().prepare()
        if prepared is not None:
            await prepared

    def answer(self, status: int, text: str, title: str = "", after: int | None = None, link: bool = False) -> None:
        """A plain page in place of what was asked for; it leads to the dashboard `after` some seconds."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.finish(_ANSWER.render(title=title or "This cannot be opened", text=text, after=after, link=link))


class Page(Keeper, TornadoVoilaHandler):
    """The dashboard itself: it waits in line for a kernel, and takes it along when nobody reads any more."""

    page = True
    content_security_policy = POLICY
    gone = False

    def on_connection_close(self) -> None:
        """Nobody reads any more."""
        self.gone = True
        super().on_connection_close()

    async def get(self, path: str | None = None) -> None:
        """Send the page as it is made; when all kernels are taken for some seconds, one that says so."""
        server = self.settings["voila"]
        async with self.kernel_manager.place(server.patience, lambda: self.gone) as free:
            if self.gone:
                return
            if not free:
                said = f"All {self.kernel_manager.limit} kernels are busy. This page tries again by itself."
                self.set_header("Retry-After", "3")
                return self.answer(503, said, title="Dashboard", after=3)
            pieces = self.get_generator()
            self._send(begun := await anext(pieces, ""))
        async for piece in pieces:
            begun += "" if "kernelId" in begun else piece
            self._send(piece)
        if self.gone and (kernel := re.search(r'"kernelId": ?"([0-9a-f-]{36})"', begun)):
            await ensure_async(self.kernel_manager.shutdown_kernel(kernel[1]))

    def _send(self, piece: str) -> None:
        if not self.gone:
            self.write("\n" if piece.startswith("<script>window.voila_heartbeat") else piece)
            self.flush()


def kept(handler: type[web.RequestHandler]) -> type[web.RequestHandler]:
    """A handler with a keeper before it."""
    return type(handler.__name__, (Keeper, handler), {"public": handler in PUBLIC})


class DashboardServer(Voila):
    """Voila with the doors that a dashboard needs, each with its keeper."""

    patience = Float(10.0, config=True, help="Seconds that a page waits for a kernel before it is told to come again.")

    def init_handlers(self) -> list[Any]:
        """Those of Voila's handlers that are needed, and the page at one address only."""
        doors: list[Any] = []
        for pattern, handler, *more in super().init_handlers():
            if handler is TornadoVoilaHandler:
                doors.append((self.server_url, Page, *more))
            elif handler in OPEN:
                doors.append((pattern, kept(handler), *more))
        return doors


main: Callable[..., None] = DashboardServer.launch_instance

if __name__ == "__main__":
    main()
