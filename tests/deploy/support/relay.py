"""A door on this machine's loopback to a service of the cluster: as a browser behind an ingress comes in."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable
from types import TracebackType

CONNECT_S = 5.0


class Relay:
    """Passes connections on, byte by byte.

    :param target: asked for each connection where it goes, host and port.
    :param end: called when the door closes.
    :ivar url: what a visitor opens.
    """

    def __init__(self, target: Callable[[], tuple[str, int]], end: Callable[[], None] = lambda: None) -> None:
        self._end = end

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), socket.create_connection(target(), CONNECT_S) as other:
                    other.settimeout(None)
                    back = threading.Thread(target=_copy, args=(other, self.request), daemon=True)
                    back.start()
                    _copy(self.request, other)
                    back.join()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._end()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    # Each direction ends by itself, as the peers end it.
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
