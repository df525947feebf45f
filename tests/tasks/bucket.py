"""A bucket of S3 that shows a folder: what pyarrow's own client asks of it to list and to read, and no more."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 7  # names a listing gives at once, so that every listing has several pages


class Bucket(ThreadingHTTPServer):
    """The server.

    Attributes:
        folder: What is below it is in the bucket, whose name is the folder's.
        asked: Each request: its method, what is asked for, and the range of bytes.
        answers: What it does instead, if anything: a status and a code of S3's, or "nothing".
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.folder = folder
        self.asked: list[tuple[str, str, str]] = []
        self.answers: tuple[int, str] | str | None = None
        self.closing = threading.Event()

    def uri(self, name: str = "") -> str:
        """The address of a name in the bucket."""
        place = f"127.0.0.1:{self.server_address[1]}"
        return f"s3://{self.folder.name}/{name}?endpoint_override={place}&scheme=http&region=us-east-1"


@contextmanager
def bucket(folder: Path) -> Iterator[Bucket]:
    """A bucket of what a folder holds, as long as one is inside."""
    server = Bucket(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # heads and bodies go together, else each answer takes 40 ms
    disable_nagle_algorithm = True
    server: Bucket

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        name, _, key = unquote(url.path).lstrip("/").partition("/")
        self.server.asked.append((self.command, query.get("prefix", key), self.headers.get("Range", "")))
        if self.server.answers == "nothing":
            self.server.closing.wait()
            self.close_connection = True
            return
        if isinstance(self.server.answers, tuple):
            self._refuse(*self.server.answers)
        elif name != self.server.folder.name:
            self._refuse(404, "NoSuchBucket")
        elif not key:
            self._list(query)
        elif (file := self.server.folder / key).is_file():
            self._file(file)
        else:
            self._refuse(404, "NoSuchKey")

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        root = self.server.folder
        folder = root / prefix.rpartition("/")[0]
        files = {str(path.relative_to(root)): path for path in folder.rglob("*") if path.is_file()}
        shown: dict[str, Path | None] = {}
        for key, path in sorted(files.items()):
            if key.startswith(prefix):
                head, cut, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
                shown |= {prefix + head + cut: None} if cut else {key: path}
        size = min(PAGE, int(query.get("max-keys", PAGE)))
        names = [name for name in shown if name > query.get("continuation-token", "")]
        parts = [_entry(name, shown[name]) for name in names[:size]]
        more = len(names) > size
        token = f"<NextContinuationToken>{escape(names[size - 1])}</NextContinuationToken>" if more else ""
        self._send(
            200,
            f"<ListBucketResult><Name>{root.name}</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"<KeyCount>{len(parts)}</KeyCount>{''.join(parts)}</ListBucketResult>".encode(),
        )

    def _file(self, file: Path) -> None:
        content, headers = file.read_bytes(), {"Last-Modified": formatdate(file.stat().st_mtime, usegmt=True)}
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(int(found[2]), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._send(206, content[first : last + 1], headers)
        else:
            self._send(200, content, headers)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(name: str, path: Path | None) -> str:
    if path is None:
        return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
    status = path.stat()
    written = formatdate(status.st_mtime, usegmt=True)
    return (
        f"<Contents><Key>{escape(name)}</Key><Size>{status.st_size}</Size>"
        f"<LastModified>{written}</LastModified></Contents>"
    )
