"""Somebody else's AWS on this machine: the mended MiniStack as a process of its own, while a `with` block lasts."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import boto3
import botocore.session
from botocore.config import Config

REGION = "us-east-1"
ACCOUNT = "000000000000"

_HERE = Path(__file__).resolve().parent
_SECONDS_TO_START = 60.0
_SECONDS_TO_STOP = 10.0
_STARTS = 3
_LINES_OF_LOG = 60

# In /proc/<pid>/status.
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)

# Past any proxy that the environment names.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

T = TypeVar("T")


class EmulatorFailed(Exception):
    """The emulator did not start, or stopped by itself."""


class NotInTime(Exception):
    """What was waited for did not come."""


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 30.0) -> T:
    """Looks again and again, and returns the first thing seen that is true; NotInTime says what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        if seen := look():
            return seen
        if time.monotonic() >= deadline:
            raise NotInTime(f"not within {seconds:g} seconds: {what}")
        time.sleep(0.1)


class Emulator:
    """The mended MiniStack on a free port of the loopback interface.

    Everything that it writes lies in `folder` (by default a new one, which is removed at the end unless something
    failed), the log in `folder/emulator.log`. Nothing of the caller's AWS configuration reaches it or its functions,
    and it leaves Docker alone. `without` names mends to leave out; `retry_seconds` is the wait before an asynchronous
    invocation is first tried again, where AWS takes a minute.
    """

    def __init__(self, folder: Path | None = None, without: Iterable[str] = (), retry_seconds: float = 1.0) -> None:
        self._keep_folder = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="cascade-emulator-"))
        self.log = self.folder / "emulator.log"
        self.endpoint = ""
        self.without = tuple(without)
        self._retry_seconds = retry_seconds
        self._process: subprocess.Popen[bytes] | None = None
        # Whatever AWS_PROFILE and the files in the caller's home say.
        profile_free = botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, str(self.folder / "no-config"), None),
                "credentials_file": (None, None, str(self.folder / "no-credentials"), None),
            }
        )
        self._session = boto3.session.Session(
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name=REGION,
            botocore_session=profile_free,
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            self._print_tail_of_log()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            self._print_tail_of_log()
        elif not self._keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Starts MiniStack and waits until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for start in range(1, _STARTS + 1):
            port = _free_port()
            self.endpoint = f"http://127.0.0.1:{port}"
            self._spawn(port)
            try:
                wait_for(f"an answer of the emulator at {self.endpoint}", self._is_ready, _SECONDS_TO_START)
            except EmulatorFailed:
                # Somebody may have taken the port between our look and MiniStack's.
                if start == _STARTS or "already in use" not in self.tail_of_log():
                    raise
            else:
                return

    def _spawn(self, port: int) -> None:
        command = [sys.executable, "-m", "ministack_mended"]
        for mend in self.without:
            command += ["--without", mend]
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = self.environment() | {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            # Without it, MiniStack opens a port for MQTT on all interfaces.
            "IOT_MTLS_ENABLED": "0",
            "LAMBDA_EXECUTOR": "local",
            # Otherwise it removes containers of other MiniStacks when it starts.
            "DOCKER_HOST": f"unix://{self.folder}/no-docker.sock",
            "STATE_DIR": str(self.folder / "state"),
            "S3_DATA_DIR": str(self.folder / "s3"),
            "TMPDIR": str(temporary),
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": str(self._retry_seconds),
            "PYTHONPATH": str(_HERE),
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("ab") as log:
            # A group of its own, so that the functions' processes end with it.
            self._process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def _is_ready(self) -> bool:
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            raise EmulatorFailed(f"MiniStack ended with status {status}; its log is {self.log}")
        try:
            with _DIRECT.open(f"{self.endpoint}/_ministack/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def environment(self) -> dict[str, str]:
        """The variables with which another program (sam, aws, cascade) reaches this emulator, and nothing but it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        for proxy in ("http_proxy", "https_proxy", "all_proxy"):
            kept.pop(proxy, None)
            kept.pop(proxy.upper(), None)
        return kept | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": str(self.folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "no-credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A boto3 client of a service of this emulator. It tries once: what fails here is no accident of a network."""
        return self._session.client(
            service, endpoint_url=self.endpoint, config=Config(retries={"total_max_attempts": 1}, proxies={})
        )

    def peak_memory(self, function: str) -> int:
        """The most memory, in bytes, that a process of a function has held so far; 0 if none lives.

        MiniStack's own figure in a REPORT line is 0 for provided runtimes.
        """
        assert self._process is not None
        peak = 0
        for process in Path("/proc").iterdir():
            try:
                if not process.name.isdigit() or os.getpgid(int(process.name)) != self._process.pid:
                    continue
                variables = (process / "environ").read_bytes().split(b"\0")
                if f"AWS_LAMBDA_FUNCTION_NAME={function}".encode() in variables:
                    status = (process / "status").read_text()
                    peak = max(peak, *(int(kilobytes) * 1024 for kilobytes in _PEAK.findall(status)), 0)
            except OSError:
                # It has ended meanwhile.
                continue
        return peak

    def reset(self) -> None:
        """Forgets everything: resources, functions' processes, metrics, logs."""
        request = urllib.request.Request(f"{self.endpoint}/_ministack/reset", method="POST")
        _DIRECT.open(request, timeout=30).close()

    def stop(self) -> None:
        """Ends MiniStack and every process that its functions run in."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def tail_of_log(self, lines: int = _LINES_OF_LOG) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _print_tail_of_log(self) -> None:
        print(f"the end of {self.log}:\n{self.tail_of_log()}", file=sys.stderr)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
