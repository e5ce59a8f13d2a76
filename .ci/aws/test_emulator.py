"""What the end-to-end tests rely on in the emulator itself."""

import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from canaries import FINE, make_function, make_queue
from emulator import Emulator, EmulatorFailed, NotInTime, wait_for


def test_the_callers_aws_configuration_reaches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "there-is-none")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-caller")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Emulator(folder=tmp_path) as emulator:
        make_queue(emulator, "reached")
        environment = emulator.environment()
    assert "AWS_PROFILE" not in environment
    assert "AWS_SESSION_TOKEN" not in environment
    assert "http_proxy" not in environment
    assert environment["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")


def test_stopping_ends_the_functions_processes_too(tmp_path: Path) -> None:
    with Emulator(folder=tmp_path) as emulator:
        make_function(emulator, "lives", FINE)
        emulator.client("lambda").invoke(FunctionName="lives", Payload=b"{}")
        group = processes_with(str(tmp_path))
        assert len(group) >= 2, "MiniStack and its function"
    # Killed, a process may take a moment to be gone.
    wait_for("the end of every process", lambda: not processes_with(str(tmp_path)), seconds=5.0)


def test_a_functions_memory_is_measured_while_its_process_lives(tmp_path: Path) -> None:
    with Emulator(folder=tmp_path) as emulator:
        make_function(emulator, "measured", HOLDS_30_MB)
        assert emulator.peak_memory("measured") == 0
        emulator.client("lambda").invoke(FunctionName="measured", Payload=b"{}")
        assert 30_000_000 < emulator.peak_memory("measured") < 200_000_000


def test_a_reset_forgets_resources(tmp_path: Path) -> None:
    with Emulator(folder=tmp_path) as emulator:
        queue = make_queue(emulator, "forgotten")
        emulator.reset()
        with pytest.raises(ClientError, match="does not exist"):
            emulator.client("sqs").get_queue_attributes(QueueUrl=queue)


def test_a_failure_shows_the_end_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EmulatorFailed, match="ended with status 2"):
        Emulator(folder=tmp_path, without=["no-such-mend"]).__enter__()
    assert "invalid choice: 'no-such-mend'" in capsys.readouterr().err


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(NotInTime, match=r"not within 0\.2 seconds: a miracle"):
        wait_for("a miracle", lambda: False, seconds=0.2)


HOLDS_30_MB = "def handler(event, context):\n    return len(b'x' * 30_000_000)\n"


def processes_with(folder: str) -> list[int]:
    """The processes whose temporary folder is the emulator's: itself, and whatever it started."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"TMPDIR={folder}/tmp".encode() in environment:
                found.append(int(process.name))
    return found
