"""A proxy before an S3 server that answers some requests badly, or none for a while.

Listens on 127.0.0.1 alone. It reads a request whole, draws whether and how to fail it, and opens a connection to the
server for each request that it passes on. Towards the client a connection stays open, as S3 keeps it.
"""

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedIOBase
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import NamedTuple

KINDS = ("error", "slow down", "silence", "cut before", "cut inside", "cut after")
_SERVER_TIMEOUT_S = 60


class FaultyProxy:
    """A context manager: listens while inside.

    ``error`` and ``slow down`` answer 500 and 503, as S3 does; ``silence`` answers nothing for a while, then closes;
    ``cut before`` closes at once. The server hears of none of these. ``cut inside`` closes after half of a request's
    body; where it has none, after half of the answer's body, or of its headers where that has none either.
    ``cut after`` closes once the server has done what was asked.

    Args:
        server_port: Where the server listens on 127.0.0.1.
        rate: Share of the requests that fail.
        seed: Of the draws.
        kinds: Which faults, each as likely as the others.
        silence_s: How long ``silence`` lasts.

    Attributes:
        port: Where the proxy listens.
        counts: Requests, faults by kind, and the connections and requests cut off by outages.
    """

    def __init__(
        self, server_port: int, *, rate: float, seed: int = 0, kinds: Sequence[str] = KINDS, silence_s: float = 5.0
    ) -> None:
        self.rate, self.counts = rate, Counter[str]()
        self.silence_s, self.server_port = silence_s, server_port
        self._kinds, self._draws = kinds, random.Random(seed)
        self._mutex = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._away = False
        self._listener = _Listener(self)
        self.port: int = self._listener.server_address[1]

    def __enter__(self) -> "FaultyProxy":
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self.go_away()

    def go_away(self) -> None:
        """Start an outage: open connections are closed, and new ones as they come."""
        with self._mutex:
            self._away = True
            clients = list(self._clients)
        for client in clients:
            with suppress(OSError):  # closed by its other end meanwhile
                client.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """End an outage."""
        with self._mutex:
            self._away = False

    def record(self) -> str:
        """The counts in a line."""
        return ", ".join(f"{count} {name}" for name, count in self.counts.most_common())

    def admit(self, client: socket.socket) -> bool:
        """Note a new connection; gives whether it may stay."""
        with self._mutex:
            self._clients.add(client)
            if self._away:
                self.counts["turned away"] += 1
            return not self._away

    def forget(self, client: socket.socket) -> None:
        """Note that a connection has ended."""
        with self._mutex:
            self._clients.discard(client)

    def draw(self) -> str | None:
        """How a request that has arrived is to fail, or None."""
        with self._mutex:
            self.counts["requests"] += 1
            if self._away:
                self.counts["turned away"] += 1
                return "cut before"
            kind = self._draws.choice(self._kinds) if self._draws.random() < self.rate else None
            if kind is not None:
                self.counts[kind] += 1
            return kind


class _Message(NamedTuple):
    """A request or an answer, as its bytes."""

    start: bytes
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def head(self) -> bytes:
        """All before the body."""
        lines = [self.start, *(name + b": " + value for name, value in self.headers.items())]
        return b"".join(line + b"\r\n" for line in [*lines, b""])


class _Listener(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(StreamRequestHandler):
    """A client's connection: request after request, until one is cut."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        assert isinstance(self.server, _Listener)
        proxy = self.server.proxy
        try:
            if proxy.admit(self.connection):
                with suppress(OSError):  # an end that closed its connection
                    while self._serve_one(proxy):
                        pass
        finally:
            proxy.forget(self.connection)

    def _serve_one(self, proxy: FaultyProxy) -> bool:
        """Read a request and answer it; gives whether the connection stays open."""
        found = _read_head(self.rfile)
        if found is None:
            return False
        start, headers = found
        if headers.pop(b"expect", None) is not None:  # the client waits for this before it sends the body
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = _Message(start, headers, _read_body(self.rfile, headers))
        fault = proxy.draw()
        if fault == "cut before":
            return False
        if fault == "silence":
            time.sleep(proxy.silence_s)
            return False
        if fault in ("error", "slow down"):
            self.wfile.write(_refusal(fault))
            return True
        with socket.create_connection(("127.0.0.1", proxy.server_port), timeout=_SERVER_TIMEOUT_S) as server:
            if fault == "cut inside" and request.body:
                server.sendall(request.head + request.body[: len(request.body) // 2])
                return False
            server.sendall(request.head + request.body)
            answer = _read_answer(server, is_head=start.startswith(b"HEAD "))
        if fault == "cut after":
            return False
        if fault == "cut inside":
            self.wfile.write(_half(answer))
            return False
        self.wfile.write(answer.head + answer.body)
        return headers.get(b"connection", b"").lower() != b"close"


def _read_head(stream: BufferedIOBase) -> tuple[bytes, dict[bytes, bytes]] | None:
    """First line and headers, their names in lower case; None where the connection has ended."""
    start = stream.readline().rstrip()
    if not start:
        return None
    headers = {}
    while line := _line(stream).rstrip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    return start, headers


def _read_body(stream: BufferedIOBase, headers: dict[bytes, bytes]) -> bytes:
    """The body as it is sent, with its chunks' marks if it has such; empty where no length is given."""
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return _exactly(stream, int(headers.get(b"content-length", 0)))
    parts = []
    while True:
        mark = _line(stream)
        size = int(mark.partition(b";")[0], 16)
        if size == 0:
            break
        parts += [mark, _exactly(stream, size + 2)]
    parts.append(mark)
    while (trailer := _line(stream)).rstrip():
        parts.append(trailer)
    return b"".join([*parts, b"\r\n"])


def _read_answer(server: socket.socket, *, is_head: bool) -> _Message:
    """The server's answer, such that the connection to the client can stay open after it."""
    with server.makefile("rb") as stream:
        found = _read_head(stream)
        if found is None:
            raise ConnectionError("the server closed without an answer")
        start, headers = found
        headers.pop(b"connection", None)
        if is_head or start.split()[1] in (b"204", b"304"):
            return _Message(start, headers, b"")
        if b"content-length" in headers or b"transfer-encoding" in headers:
            return _Message(start, headers, _read_body(stream, headers))
        body = stream.read()
    return _Message(start, {**headers, b"content-length": b"%d" % len(body)}, body)


def _line(stream: BufferedIOBase) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("closed within a message")
    return line


def _exactly(stream: BufferedIOBase, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ConnectionError("closed within a message")
    return content


def _refusal(fault: str) -> bytes:
    """The answer of an S3 server that fails or has too much to do."""
    status, code = (b"500 Failed", b"InternalError") if fault == "error" else (b"503 Slow Down", b"SlowDown")
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%b</Code><Message>Try again.</Message></Error>' % code
    headers = {b"content-type": b"application/xml", b"content-length": b"%d" % len(body)}
    return _Message(b"HTTP/1.1 " + status, headers, body).head + body


def _half(answer: _Message) -> bytes:
    """Half of an answer's body, after its head; half of the head where there is no body."""
    if answer.body:
        return answer.head + answer.body[: len(answer.body) // 2]
    return answer.head[: len(answer.head) // 2]
