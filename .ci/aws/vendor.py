"""The simulated vendor as a process of its own, behind a door that keeps account and can be shut."""

import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Vendor:
    """`cascade vendor` while a `with` block lasts: `url` is the door that the functions come through.

    `refuse`, if set, sees each request's path with its query, and answers the status that it is refused with, or None.
    """

    def __init__(self, binary: Path, quota: int) -> None:
        # A world that begins now changes in an hour, and not when the clock strikes.
        begins = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._command = [str(binary), "vendor", "--port", "0", "--quota", str(quota), "--start", begins]
        self.refuse: Callable[[str], int | None] = lambda path: None
        self.paths: list[str] = []
        self.times: list[float] = []
        self.authorizations: set[str | None] = set()
        self._behind = ""
        self._process: subprocess.Popen[str] | None = None
        self._door = ThreadingHTTPServer(("127.0.0.1", 0), _door(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._door.server_port}"

    def __enter__(self) -> Self:
        # Without what would make it wait for AWS or a proxy; it needs neither.
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        assert first.startswith("The vendor answers at "), first
        self._behind = first.split()[4].rstrip(",")
        # What else it says is read, so that it never waits for us.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        threading.Thread(target=self._door.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.shutdown()
        self._door.server_close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def busiest(self, seconds: float, since: int = 0) -> int:
        """The most requests, of those after the first `since`, that came within so many seconds."""
        times = sorted(self.times[since:])
        return max((bisect_left(times, first + seconds) - index for index, first in enumerate(times)), default=0)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """What stands behind the door answers this, as it is."""
        try:
            with _DIRECT.open(self._behind + path, timeout=30) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, dict(refusal.headers), refusal.read()

    def says(self, path: str, **query: str) -> Any:
        """The result of an answer, with every number to its last digit."""
        status, _, body = self.answer(f"{path}?{urllib.parse.urlencode(query)}")
        assert status == 200, (status, body)
        return json.loads(body, parse_float=Decimal)["result"]


def _door(vendor: Vendor) -> type[BaseHTTPRequestHandler]:
    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            vendor.times.append(time.monotonic())
            vendor.paths.append(self.path)
            vendor.authorizations.add(self.headers.get("Authorization"))
            if (refused := vendor.refuse(self.path)) is not None:
                status, headers, body = refused, {}, b'{"error": "refused at the door"}'
            else:
                status, headers, body = vendor.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() in ("content-type", "retry-after", "etag"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests look at `paths`."""

    return Door
