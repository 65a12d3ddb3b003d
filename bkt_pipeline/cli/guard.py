"""The guard in front of Dagster's web server, which has no login of its own.

Any web page that is open in a browser on this machine can send requests to 127.0.0.1, and so can every account here.
The guard answers only a browser that has the secret of this start, at one of our addresses, and accepts a mutation only
in the form in which our pages send it.

It is plain ASGI around Dagster's app, so responses are streamed, and a WebSocket only has its headers checked.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bkt_pipeline.errors import InvalidSettings

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
TOKEN = "token"
DEFAULT_PORTS = {"http": 80, "https": 443}
READING = ("GET", "HEAD")

# A second policy in addition to Dagster's own; a browser applies both.
FRAMES = "frame-ancestors 'none'"
HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Address:
    """An address of the UI, in the form that browsers send in `Host` and `Origin`."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return (name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}").lower()

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def read_address(url: str) -> Address:
    """The address of a public URL such as ``https://bkt.example.org``.

    Raises
    ------
    InvalidSettings
        The URL is not http or https, or has more than a scheme, a host and a port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or extra:
        raise InvalidSettings(
            f"{url!r} is not a public URL; use a scheme, a host and perhaps a port, as in https://bkt.example.org"
        )
    return Address(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme])


class Guard:
    """ASGI middleware that refuses every request from a page or user without the secret.

    Parameters
    ----------
    app
        Dagster's app.
    secret
        The secret of this start. ``/?token=SECRET`` turns it into a cookie for the browser session.
    addresses
        Our addresses. The IP address at which a connection arrived is also one of them. That is safe, because a page
        that rebinds its own name to this machine still sends that name.
    cookie
        The cookie's name. Browsers share cookies between the ports of a host, so it differs by port.
    """

    def __init__(self, app: ASGIApp, secret: str, addresses: Collection[Address], cookie: str) -> None:
        self.app = app
        self.secret = secret.encode()
        self.hosts = {address.netloc for address in addresses}
        self.secure_hosts = {address.netloc for address in addresses if address.scheme == "https"}
        self.origins = {str(address) for address in addresses}
        self.cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        answer = self._answer(HTTPConnection(scope))
        if answer is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            # Closing before accepting is an HTTP 403 to the browser.
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, _with_headers(send))

    def _answer(self, request: HTTPConnection) -> Response | None:
        """The answer to send instead of Dagster's; None if Dagster may answer."""
        hosts = request.headers.getlist("host")
        here = _arrived_at(request.scope)
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts | {here.netloc}:
            return _refused(
                "Open the address that `bkt-pipeline ui` printed when it started; it does not serve this host name."
            )
        if any(origin not in self.origins | {str(here)} for origin in request.headers.getlist("origin")):
            return _refused("Another web site sent this request, so it was refused.")
        token = request.query_params.get(TOKEN, "")
        if request.scope["type"] == "http" and request.scope["path"] == "/" and self._knows(token):
            return self._let_in(secure=hosts[0].lower() in self.secure_hosts)
        if not self._knows(request.cookies.get(self.cookie, "")):
            return _refused(
                "Open the address that `bkt-pipeline ui` printed when it started; it holds the secret that this "
                "page needs."
            )
        return _refuse_unsafe(request) if request.scope["type"] == "http" else None

    def _knows(self, value: str) -> bool:
        return secrets.compare_digest(value.encode(errors="replace"), self.secret)

    def _let_in(self, *, secure: bool) -> Response:
        """Exchange the secret in the address for a cookie, and redirect to the address without it."""
        answer = RedirectResponse("/", status_code=303, headers={"Cache-Control": "no-store"})
        answer.set_cookie(self.cookie, self.secret.decode(), httponly=True, samesite="strict", secure=secure)
        return answer


def _arrived_at(scope: Scope) -> Address:
    host, port = scope["server"]
    return Address("http", host, port)


def _refuse_unsafe(request: HTTPConnection) -> Response | None:
    """Allow changes only by a POST with JSON, which no form and no image can send."""
    method = request.scope["method"]
    if method in READING:
        asks_graphql = request.scope["path"].rstrip("/") == "/graphql"
        # Dagster answers a request for text/html with the page of its query editor and does not run the query.
        if asks_graphql and "text/html" not in request.headers.get("accept", ""):
            return _refused("GraphQL is answered to POST requests only.", status=405)
        return None
    if method != "POST":
        return _refused(f"{method} is not allowed.", status=405)
    types = request.headers.getlist("content-type")
    if [_media_type(value) for value in types] != ["application/json"]:
        return _refused("Only a body of application/json is accepted.", status=415)
    return None


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def _refused(sentence: str, status: int = 403) -> Response:
    return PlainTextResponse(f"{sentence}\n", status_code=status, headers={"Cache-Control": "no-store"})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.append("Content-Security-Policy", FRAMES)
        await send(message)

    return sending


def loopback_addresses(port: int) -> list[Address]:
    """The addresses that a browser on this machine may use for the port."""
    return [Address("http", name, port) for name in LOOPBACK_NAMES]
