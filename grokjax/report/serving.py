"""The report of a sweep in progress, served to a browser and renewed as checkpoints arrive.

Everything here only reads. What can be fetched is a fixed list: the page, its data, single runs,
the tables ``results/*.parquet`` and the figures ``figures/*.svg`` of one work directory; links
that lead out of it are not followed. Requests must be GET or HEAD and must name this server in
``Host``, so that no other site can have a visitor's browser read from it.
"""

import contextlib
import http.server
import io
import ipaddress
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, BinaryIO

from grokjax.measuring.loading import Sweep
from grokjax.report import page
from grokjax.report.page import payload
from grokjax.store.errors import CheckpointError, DamagedTableError, StorageError, WorkdirError

_FILES = {
    "results": (re.compile(r"[a-z0-9_]+\.parquet"), "application/vnd.apache.parquet"),
    "figures": (re.compile(r"[A-Za-z0-9_-]+\.svg"), "image/svg+xml"),
}
_UNREADABLE = (DamagedTableError, CheckpointError, WorkdirError, StorageError, OSError)
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_MOST_DETAILS = 32
# A page is built anew at most this share of the time.
_SHARE = 0.2


class Content:
    """The page's data, renewed when the work directory has something new.

    Between two looks there are at least ``pause`` seconds.
    """

    def __init__(self, workdir: pathlib.Path, pause: float = 2.0):
        self.workdir = workdir
        self.renewed: list[Callable[[Sweep], None]] = []  # called after each renewal
        self._pause = pause
        self._reading = threading.Lock()  # details of one run at a time
        self._ended = threading.Event()
        self._seen: Any = None
        self._version = 0
        # Name → content and type of what lies in /report: replaced as a whole, never changed.
        self._report: dict[str, tuple[bytes, str]] = {}
        self._details: dict[str, bytes] = {}

    def renew(self) -> None:
        """Reads the work directory if it has changed since; keeps the old data if it cannot."""
        found = _fingerprint(self.workdir)
        if found == self._seen:
            return
        try:
            sweep = Sweep(self.workdir)
            data = payload.build(sweep) | {"live": True, "version": self._version + 1}
        except _UNREADABLE as error:
            if not self._version:
                raise
            self._report = self._report | self._state(f"Not renewed: {error}")
            return
        html, text = (page.render(data).encode(), _HTML), (page.as_json(data).encode(), _JSON)
        self._seen = found
        self._version += 1
        self._report = {"": html, "index.html": html, "data.json": text} | self._state("")
        with self._reading:
            self._details.clear()
        for tell in self.renewed:
            tell(sweep)

    def _state(self, message: str) -> dict[str, tuple[bytes, str]]:
        state = {"version": self._version, "message": message}
        return {"state.json": (json.dumps(state).encode(), _JSON)}

    @contextlib.contextmanager
    def renewing(self) -> Iterator[None]:
        """Renews in the background for as long as the context lasts."""

        def loop() -> None:
            pause = self._pause
            while not self._ended.wait(pause):
                begun = time.monotonic()
                self.renew()
                pause = max(self._pause, (time.monotonic() - begun) / _SHARE)

        thread = threading.Thread(target=loop, name="report", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(timeout=5)  # a renewal may take longer, and nothing is lost by ending it

    def find(self, path: str) -> tuple[BinaryIO, str] | None:
        """What lies at a path, which must be one of the few there are, and its type."""
        match path.split("/"):
            case ["", "report", name] if name in self._report:
                text, kind = self._report[name]
                return io.BytesIO(text), kind
            case ["", "report", "runs", name] if name.endswith(".json"):
                own = self._details_of(urllib.parse.unquote(name.removesuffix(".json")))
                return None if own is None else (io.BytesIO(own), _JSON)
            case ["", "results" | "figures" as folder, name]:
                return self._file(folder, name)
        return None

    def _details_of(self, run_id: str) -> bytes | None:
        """Details of one run as JSON; None if there is no such run or nothing of it to show."""
        with self._reading:
            if run_id not in self._details:
                found = None
                with contextlib.suppress(*_UNREADABLE):
                    sweep = Sweep(self.workdir)
                    if any(run.run_id == run_id for run in sweep.config.runs):
                        found = payload.details_of(sweep, run_id)
                if found is None:
                    return None
                if len(self._details) >= _MOST_DETAILS:
                    self._details.clear()
                self._details[run_id] = page.as_json(found).encode()
            return self._details[run_id]

    def _file(self, folder: str, name: str) -> tuple[BinaryIO, str] | None:
        """A table or figure, open; None unless it is a plain file inside the work directory."""
        pattern, kind = _FILES[folder]
        if not pattern.fullmatch(name):
            return None
        path = self.workdir / folder / name
        try:
            root = self.workdir.resolve(strict=True)
            if path.resolve(strict=True) != root / folder / name:  # a link on the way
                return None
            # Again no link, and no pipe to wait at, should it have been replaced by one since.
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            return None
        return file, kind


def _fingerprint(workdir: pathlib.Path) -> Any:
    """What changes when a table is merged, rows are committed or a checkpoint is."""
    patterns = ("results/*.parquet", "results/.parts/*", "checkpoints/*/params", "figures/*.svg")
    stats = []
    for path in sorted(path for own in (*patterns, "sweep.json") for path in workdir.glob(own)):
        with contextlib.suppress(OSError):  # removed meanwhile
            found = path.stat()
            stats.append((path.name, found.st_mtime_ns, found.st_size))
    return stats


class _Handler(http.server.BaseHTTPRequestHandler):
    # HTTP/1.0, one request a connection: nothing is gained by more on one machine.
    timeout = 30
    server: "Server"

    def do_GET(self) -> None:
        """Answers; to HEAD without a body."""
        path = self.path.split("?", 1)[0]
        if not self.server.answers_to(self.headers.get_all("Host", [])):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self._refuse(HTTPStatus.BAD_REQUEST)  # nothing here takes a body
        elif path == "/":
            self._refuse(HTTPStatus.FOUND, Location="/report/")
        elif (found := self.server.content.find(path)) is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, *found)

    do_HEAD = do_GET

    def __getattr__(self, name: str) -> Any:
        # For a verb without a do_ method the base class says that the server is not able to; here
        # it is not allowed to.
        if name.startswith("do_"):
            return lambda: self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        raise AttributeError(name)

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        text = io.BytesIO(f"{status.value} {status.phrase}\n".encode())
        self._send(status, text, "text/plain; charset=utf-8", **headers)

    def _send(self, status: HTTPStatus, content: BinaryIO, kind: str, **headers: str) -> None:
        size = content.seek(0, io.SEEK_END)
        content.seek(0)
        self.send_response(status)
        every = {
            "Content-Type": kind,
            "Content-Length": str(size),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            **headers,
        }
        for name, value in every.items():
            self.send_header(name, value)
        self.end_headers()
        with content, contextlib.suppress(ConnectionError):  # the visitor has gone
            if self.command != "HEAD":
                shutil.copyfileobj(content, self.wfile)

    def version_string(self) -> str:
        """What the Server header says: no versions."""
        return "grokjax"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: the terminal tells of the sweep."""


class Server(http.server.ThreadingHTTPServer):
    """Serves one work directory's report; port 0 is a free one.

    Raises:
        OSError: if it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, content: Content, host: str = "127.0.0.1", port: int = 0):
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self.content = content
        self._host = host

    @property
    def address(self) -> str:
        """Where the page is."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.server_port}/"

    def answers_to(self, hosts: list[str]) -> bool:
        """Whether a request's Host headers name this server.

        A name that merely resolves to this machine does not: a page of another site could have
        chosen it (DNS rebinding). When listening on all addresses, any numeric one will do.
        """
        pattern = r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?"
        match = re.fullmatch(pattern, hosts[0].strip()) if len(hosts) == 1 else None
        if match is None or int(match[2] or 80) != self.server_port:
            return False
        name = match[1].strip("[]").lower()
        if name in {self._host.lower(), "localhost", "127.0.0.1", "::1"}:
            return True
        try:
            ipaddress.ip_address(name)
            return ipaddress.ip_address(self._host).is_unspecified
        except ValueError:
            return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor that went away or sent nonsense is no event."""
