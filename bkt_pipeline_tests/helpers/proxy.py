"""A TCP proxy in front of the server's socket, which can freeze like a network that drops packets."""

import socket
import threading
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit


class Proxy:
    """Forwards connections to a Postgres that listens on a socket file.

    A frozen connection stays open but forwards nothing. `freeze_after` freezes each connection that has
    forwarded this many bytes from the server, at most `most` times in all.
    """

    def __init__(self, url: str, *, freeze_after: int | None = None, most: int = 0) -> None:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._path = f"{query['host']}/.s.PGSQL.{query['port']}"
        self._freeze_after, self._left = freeze_after, most
        self._open: list[socket.socket] = []
        self._changing = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.accepted = self.frozen = 0
        self.refusing = False
        self.url = f"postgresql://postgres@127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection."""
        with self._changing:
            for line in self._open:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
                line.close()
            self._open.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                # So that no connection accepted before `refusing` was set is forwarded after `cut`.
                with self._changing:
                    if self.refusing:
                        client.close()
                        continue
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(self._path)
                    self._open += [client, server]
                threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, from_server: bool) -> None:
        passed = 0
        with suppress(OSError):
            while piece := source.recv(65536):
                passed += len(piece)
                if from_server and self._left and self._freeze_after and passed > self._freeze_after:
                    self._left -= 1
                    self.frozen += 1
                    return
                target.sendall(piece)
        for line in (source, target):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
