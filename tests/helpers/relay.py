"""Relay connections between a client and a server, losing answers or delaying requests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Relay", "relaying"]

_CHUNK = 65_536


class Relay:
    """Relay of connections, each on its own threads.

    Args:
        port: Port of the server on this machine.
        lose: Number of answers to lose: the connection breaks after the server has begun to answer.
        hold: Number of bytes of a request to pass on; None for all.
    """

    def __init__(self, port: int, lose: int = 0, hold: int | None = None) -> None:
        self._port = port
        self._hold = hold
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.lose = lose
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def accept(self) -> None:
        """Accept connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [client, server]
                for work in (self._pass_request, self._pass_answer):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _pass_request(self, client: socket.socket, server: socket.socket) -> None:
        left = self._hold
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _pass_answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK):
                if self.lose:
                    self.lose -= 1
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break all connections."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def relaying(port: int, lose: int = 0, hold: int | None = None) -> Iterator[Relay]:
    """Run a relay while the block runs."""
    relay = Relay(port, lose, hold)
    thread = threading.Thread(target=relay.accept, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join(60)
