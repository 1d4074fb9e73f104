"""Stands between a client and a server, and does to the stream what networks and servers do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress


class FaultyProxy:
    """Listens on a port of the loopback.

    `fault` is asked about every piece that the server sends, and returns what the client gets instead; None closes the
    connection. Each of its `pieces` comes `delay_s` late; requests that are dropped never reach the server.
    After `cut_after` bytes of a piece the connection is closed.
    """

    def __init__(self, server_path: str) -> None:
        self.server_path = server_path
        self.fault: Callable[[bytes], bytes | None] = bytes
        self.is_dropping_requests = False
        self.cut_after: int | None = None
        self.delay_s = 0.0
        self.accepted = 0
        self.pieces = 0
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def cut(self) -> None:
        """Closes all connections."""
        for each in self._pairs:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.server_path)
            except OSError:
                client.close()
                server.close()
                continue
            self._pairs += [client, server]
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if not self.is_dropping_requests:
                    server.sendall(data)
        self._close(client, server)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                self.pieces += 1
                if self.delay_s:
                    time.sleep(self.delay_s)
                changed = self.fault(data)
                if changed is None:
                    break
                client.sendall(changed[: self.cut_after])
                if self.cut_after is not None:
                    break
        self._close(client, server)

    @staticmethod
    def _close(*pair: socket.socket) -> None:
        for each in pair:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
