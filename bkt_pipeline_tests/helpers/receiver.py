"""A real HTTP server on the loopback address that keeps what it receives."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """What the server received: the messages of Apprise's json:// scheme, and the paths of other requests."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.port = 0

    @property
    def apprise(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook-token"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver; while its `hold` is cleared, it accepts connections and does not answer."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.hold.wait(30)
            receiver.messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            receiver.requests.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.hold.set()
            server.shutdown()
            thread.join()
