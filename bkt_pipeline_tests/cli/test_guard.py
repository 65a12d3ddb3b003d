"""The guard, on a real server before an app that counts what reaches it: requests as an attacker would send them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from typing import Any

import pytest

pytest.importorskip("dagster_webserver", reason="the extra `ui` is not installed")

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from bkt_pipeline.cli.guard import Address, Guard, loopback_addresses, read_address
from bkt_pipeline.errors import InvalidSettings

SECRET = "a-secret-of-this-start"
COOKIE = f"ui={SECRET}"
PUBLIC = "https://bkt.example.org"
MUTATION = json.dumps({"query": "mutation { launchRun }"})
CHUNKS = 50


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


class Site:
    """A guarded app on a port of its own."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        routes = [
            Route("/slow", self._stream),
            Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
            WebSocketRoute("/graphql", self._talk),
        ]
        self._app = Starlette(routes=routes)

    def start(self) -> None:
        config = uvicorn.Config(
            self,
            host="127.0.0.1",
            port=0,
            log_level="warning",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        addresses = [*loopback_addresses(self.port), read_address(PUBLIC)]
        self._guard = Guard(self._app, SECRET, addresses, "ui")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await self._guard(scope, receive, send)

    async def _answer(self, request: Request) -> JSONResponse:
        self.reached.append(f"{request.method} {request.url.path}")
        return JSONResponse({})

    async def _stream(self, _: Request) -> StreamingResponse:
        return StreamingResponse(b"x" * 100_000 for _ in range(CHUNKS))

    async def _talk(self, websocket: WebSocket) -> None:
        self.reached.append("websocket")
        await websocket.accept(subprotocol="graphql-ws")
        await websocket.send_json(await websocket.receive_json())
        await websocket.close()

    def request(
        self, method: str, path: str = "/", body: str | None = None, **headers: str | list[str]
    ) -> Answer:
        """Send exactly these headers; a name's underscores become hyphens, and Host is ours unless it is given."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, values in {"Host": f"127.0.0.1:{self.port}", **headers}.items():
                for value in [values] if isinstance(values, str) else values:
                    connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(None if body is None else body.encode())
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    site = Site()
    site.start()
    yield site
    site.stop()


@pytest.fixture
def site(started: Site) -> Site:
    started.reached.clear()
    return started


def test_the_printed_address_lets_a_browser_in_and_leaves_no_secret_in_the_address(site: Site) -> None:
    answer = site.request("GET", f"/?token={SECRET}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(COOKIE)
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert site.reached == []
    assert site.request("GET", "/runs", Cookie=COOKIE).status == 200
    assert (
        site.request("POST", "/graphql", MUTATION, Cookie=COOKIE, Content_Type="application/json").status
        == 200
    )
    assert site.reached == ["GET /runs", "POST /graphql"]


def test_the_cookie_is_for_encrypted_traffic_only_where_the_public_address_is(site: Site) -> None:
    answer = site.request("GET", f"/?token={SECRET}", Host="bkt.example.org")
    assert answer.status == 303
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{}", "localhost:{}", "LOCALHOST:{}", "[::1]:{}", "bkt.example.org"]
)
def test_it_answers_at_its_own_addresses(site: Site, host: str) -> None:
    assert site.request("GET", "/runs", Host=host.format(site.port), Cookie=COOKIE).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{}",
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{}",
        "localhost.evil.example:{}",
        "user@127.0.0.1:{}",
        "bkt.example.org:{}",
        "",
    ],
)
def test_another_host_name_is_refused(site: Site, host: str) -> None:
    """A page of evil.example that points its own name at 127.0.0.1 (DNS rebinding) has our cookie in no case."""
    assert site.request("GET", "/", Host=host.format(site.port), Cookie=COOKIE).status in (400, 403)
    assert site.request("GET", f"/?token={SECRET}", Host=host.format(site.port)).status in (400, 403)
    assert site.reached == []


def test_two_host_names_are_refused(site: Site) -> None:
    answer = site.request("GET", "/", Host=[f"127.0.0.1:{site.port}", "evil.example"], Cookie=COOKIE)
    assert answer.status in (400, 403)
    assert site.reached == []


@pytest.mark.parametrize(
    "cookie", ["", "ui=", "ui=wrong", f"other={SECRET}", "ui=ä", f"ui={SECRET}x", f"ui={SECRET[:-1]}"]
)
def test_nothing_is_answered_without_the_secret(site: Site, cookie: str) -> None:
    for path in (
        "/",
        "/server_info",
        "/graphql",
        "/logs/x.err",
        "/?token=wrong",
        "/?token=",
        "/?token=%C3%A4",
    ):
        answer = site.request("GET", path, Cookie=cookie.encode().decode("latin-1"))
        assert answer.status == 403
        assert answer.body.decode().count("\n") == 1
    assert site.request("GET", f"/runs?token={SECRET}", Cookie="").status == 403
    assert site.request("POST", "/graphql", MUTATION, Content_Type="application/json").status == 403
    assert site.reached == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        "https://127.0.0.1:{}",
        "file://",
        "",
    ],
)
def test_another_site_is_refused_even_with_the_cookie(site: Site, origin: str) -> None:
    """`SameSite` keeps the cookie from other sites, but a page on another port of this host is the same site."""
    headers = {"Cookie": COOKIE, "Origin": origin.format(site.port)}
    for method, path, body in (
        ("GET", "/", None),
        ("POST", "/graphql", MUTATION),
        ("OPTIONS", "/graphql", None),
    ):
        assert site.request(method, path, body, Content_Type="application/json", **headers).status == 403
    assert site.reached == []


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{}", "http://localhost:{}", "http://[::1]:{}", PUBLIC])
def test_our_own_pages_may_send_mutations(site: Site, origin: str) -> None:
    headers = {"Origin": origin.format(site.port), "Cookie": COOKIE}
    assert (
        site.request("POST", "/graphql", MUTATION, Content_Type="application/json", **headers).status == 200
    )


@pytest.mark.parametrize(
    "types",
    [
        [],
        [""],
        ["text/plain"],
        ["text/plain; application/json"],
        ["application/x-www-form-urlencoded"],
        ["multipart/form-data; boundary=application/json"],
        ["application/graphql"],
        ["application/jsonx"],
        ["application/json", "text/plain"],
    ],
)
@pytest.mark.parametrize(
    "path", ["/graphql", "/graphql?query=mutation{x}", "/report_asset_materialization/skills"]
)
def test_only_json_is_posted(site: Site, path: str, types: list[str]) -> None:
    """The other types are those that a form, or a fetch without the browser's consent to it, can send."""
    assert site.request("POST", path, MUTATION, Cookie=COOKIE, Content_Type=types).status == 415
    assert site.reached == []


@pytest.mark.parametrize(
    "path", ["/graphql?query=mutation{x}", "/graphql/?query=mutation{x}", "/%67raphql?query={x}"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_graphql_is_answered_to_post_only(site: Site, method: str, path: str) -> None:
    assert site.request(method, path, Cookie=COOKIE).status == 405
    assert site.reached == []


def test_every_answer_keeps_the_page_out_of_frames_and_the_address_out_of_referrers(site: Site) -> None:
    for cookie in ("", COOKIE):
        headers = site.request("GET", "/", Cookie=cookie).headers
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers.get_all("Content-Security-Policy", [])
        assert headers.get_all("Access-Control-Allow-Origin") is None


def test_large_answers_come_through_whole(site: Site) -> None:
    assert len(site.request("GET", "/slow", Cookie=COOKIE).body) == CHUNKS * 100_000


def test_a_subscription_comes_through(site: Site) -> None:
    with connect(
        f"ws://127.0.0.1:{site.port}/graphql",
        origin=f"http://127.0.0.1:{site.port}",  # type: ignore[arg-type]
        additional_headers={"Cookie": COOKIE},
        subprotocols=["graphql-ws"],  # type: ignore[list-item]
        proxy=None,
    ) as websocket:
        websocket.send('{"type": "connection_init"}')
        assert json.loads(websocket.recv()) == {"type": "connection_init"}
        assert websocket.subprotocol == "graphql-ws"


@pytest.mark.parametrize(
    ("cookie", "origin", "host"),
    [
        ("", "http://127.0.0.1:{}", "127.0.0.1:{}"),
        ("ui=wrong", "http://127.0.0.1:{}", "127.0.0.1:{}"),
        (COOKIE, "https://evil.example", "127.0.0.1:{}"),
        (COOKIE, "http://127.0.0.1:1", "127.0.0.1:{}"),
        (COOKIE, "null", "127.0.0.1:{}"),
        (COOKIE, "http://evil.example:{}", "evil.example:{}"),
    ],
)
def test_a_websocket_of_another_site_is_refused(site: Site, cookie: str, origin: str, host: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    answer = site.request(
        "GET",
        f"/graphql?token={SECRET}",
        Cookie=cookie,
        Origin=origin.format(site.port),
        Host=host.format(site.port),
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        **upgrade,
    )
    assert answer.status == 403
    assert site.reached == []


def test_a_websocket_without_the_secret_is_refused(site: Site) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{site.port}/graphql", proxy=None):
        pass
    assert site.reached == []


def test_addresses_are_written_as_browsers_do() -> None:
    assert str(Address("http", "::1", 3000)) == "http://[::1]:3000"
    assert str(Address("http", "Host", 80)) == "http://host"
    assert str(read_address("https://bkt.example.org/")) == PUBLIC
    assert str(read_address("https://bkt.example.org:8443")) == "https://bkt.example.org:8443"


@pytest.mark.parametrize(
    "url",
    ["bkt.example.org", "ftp://x", "https://", "https://x/path", "https://u:p@x", "https://x:y", "http://[x"],
)
def test_a_public_url_that_is_not_one_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="not a public URL"):
        read_address(url)
