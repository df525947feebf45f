import http.client
import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("faulty_proxy.py")


def _import(file: Path):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


faulty_proxy = _import(FILE)

CONTENT = bytes(range(250)) * 40
CUT = (http.client.HTTPException, ConnectionError)
GONE = "without response|reset by peer|[Bb]roken pipe"


class Server(BaseHTTPRequestHandler):
    """Keeps what is put; answers in each of the ways that HTTP/1.1 has to end a body."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]
    heard: list[str]

    def do_PUT(self):
        self.heard.append("PUT")
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.kept[self.path])))
        self.end_headers()

    def do_DELETE(self):
        self.send_response(204)
        self.end_headers()

    def do_GET(self):
        self.heard.append("GET")
        content = self.kept["/x"]
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (content[:7], content[7:]):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/until-closed":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)
        else:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server() -> Iterator[type[Server]]:
    """A server that holds CONTENT as ``/x``."""
    handler = type("OneServer", (Server,), {"kept": {"/x": CONTENT}, "heard": []})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.port = listener.server_address[1]
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    yield handler
    listener.shutdown()
    thread.join()
    listener.server_close()


@contextmanager
def connected(server, rate=1.0, **options):
    """A proxy before the server and one connection of a client to it."""
    with faulty_proxy.FaultyProxy(server.port, rate=rate, **options) as proxy:
        client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
        try:
            yield proxy, client
        finally:
            client.close()


def ask(client, method, path, body=None, **headers):
    client.request(method, path, body, headers)
    answer = client.getresponse()
    return answer.status, answer.read()


def test_without_faults_all_passes_on_one_connection(server):
    with connected(server, rate=0.0) as (proxy, client):
        assert ask(client, "PUT", "/y", CONTENT[:99]) == (200, b"")
        opened = client.sock
        for path in ("/x", "/chunked", "/until-closed"):
            assert ask(client, "GET", path) == (200, CONTENT)
        assert ask(client, "HEAD", "/y") == (200, b"")
        assert ask(client, "DELETE", "/y") == (204, b"")
        assert client.sock is opened
        assert proxy.counts == {"requests": 6}
    assert server.kept["/y"] == CONTENT[:99]


def test_a_body_that_waits_to_be_asked_for_is_asked_for(server):
    with connected(server, rate=0.0) as (_, client):
        client.putrequest("PUT", "/y")
        client.putheader("Content-Length", "3")
        client.putheader("Expect", "100-continue")
        client.endheaders()
        assert client.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.getresponse().status == 200
    assert server.kept["/y"] == b"abc"


def test_a_chunked_request_comes_through_as_it_is(server):
    with connected(server, rate=0.0) as (_, client):
        raw = b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
        head = b"PUT /y HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % len(raw)
        client.connect()
        client.sock.sendall(head + raw)
        assert client.sock.recv(12) == b"HTTP/1.1 200"
    assert server.kept["/y"] == raw  # this server counts bytes and knows no chunks


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("error", 500, b"InternalError"), ("slow down", 503, b"SlowDown")]
)
def test_refusals_are_answers_of_s3_and_reach_no_server(server, kind, status, code):
    with connected(server, kinds=[kind]) as (proxy, client):
        for _ in range(2):  # on the same connection
            found, body = ask(client, "PUT", "/x", b"new")
            assert found == status
            assert b"<Code>" + code + b"</Code>" in body
        assert proxy.counts == {"requests": 2, kind: 2}
    assert server.heard == []


def test_silence_lasts_and_then_the_connection_is_closed(server):
    with connected(server, kinds=["silence"], silence_s=0.3) as (_, client):
        started = time.monotonic()
        with pytest.raises(CUT, match="without response"):
            ask(client, "GET", "/x")
        assert time.monotonic() - started >= 0.3
    assert server.heard == []


def test_cut_before_the_server_has_heard_of_it(server):
    with connected(server, kinds=["cut before"]) as (_, client), pytest.raises(CUT, match="without response"):
        ask(client, "PUT", "/x", b"new")
    assert server.heard == []


def test_cut_after_the_server_has_done_it(server):
    with connected(server, kinds=["cut after"]) as (_, client), pytest.raises(CUT, match="without response"):
        ask(client, "PUT", "/x", b"new")
    assert server.kept["/x"] == b"new"


def test_cut_inside_a_request_the_server_gets_half(server):
    with connected(server, kinds=["cut inside"]) as (_, client), pytest.raises(CUT, match="without response"):
        ask(client, "PUT", "/x", CONTENT[:100])
    deadline = time.monotonic() + 5
    while server.kept["/x"] != CONTENT[:50] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.kept["/x"] == CONTENT[:50]  # this server keeps what came; S3 does not


def test_cut_inside_an_answer_the_client_gets_half(server):
    with connected(server, kinds=["cut inside"]) as (_, client):
        with pytest.raises(http.client.IncompleteRead, match=f"{len(CONTENT) // 2} bytes read") as cut:
            ask(client, "GET", "/x")
        assert cut.value.partial == CONTENT[: len(CONTENT) // 2]


def test_cut_inside_an_answer_without_a_body_the_client_gets_half_of_its_head(server):
    with connected(server, kinds=["cut inside"]) as (_, client):
        client.connect()
        client.sock.sendall(b"HEAD /x HTTP/1.1\r\n\r\n")
        with client.sock.makefile("rb") as stream:
            head = stream.read()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in head


def test_an_outage_cuts_open_connections_and_new_ones_until_it_ends(server):
    with connected(server, rate=0.0) as (proxy, client):
        assert ask(client, "GET", "/x") == (200, CONTENT)
        proxy.go_away()
        for _ in range(2):
            with pytest.raises(CUT, match=GONE):
                ask(client, "GET", "/x")
            client.close()
        proxy.come_back()
        assert ask(client, "GET", "/x") == (200, CONTENT)
        assert proxy.counts["requests"] == 2
        assert proxy.counts["turned away"] == 1  # what the client tried first was on a connection already closed
    assert server.heard == ["GET", "GET"]


def test_an_outage_ends_a_wait_for_a_silent_answer(server):
    with connected(server, kinds=["silence"], silence_s=0.2) as (proxy, client):
        threading.Timer(0.05, proxy.go_away).start()
        with pytest.raises(CUT, match="without response"):
            ask(client, "GET", "/x")


def test_faults_come_at_their_rate_and_again_from_the_same_seed(server):
    def kinds(seed, count=400):
        with faulty_proxy.FaultyProxy(server.port, rate=0.25, seed=seed) as proxy:
            return [proxy.draw() for _ in range(count)]

    drawn = kinds(1)
    assert drawn == kinds(1) != kinds(2)
    assert set(drawn) == {None, *faulty_proxy.KINDS}
    assert 0.15 < 1 - drawn.count(None) / len(drawn) < 0.35


def test_a_proxy_that_has_ended_listens_no_more(server):
    with connected(server, rate=0.0) as (_, client):
        assert ask(client, "GET", "/x") == (200, CONTENT)
    with pytest.raises(ConnectionRefusedError, match="refused"):
        ask(client, "GET", "/x")
