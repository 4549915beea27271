"""What a call in a process of its own may take, and that nothing it does reaches its caller."""

import os
import resource
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from job.limits import fork_server
from job.limits.fork_server import CallFailed, CallNotMade, ForkServer, Limits
from job.limits.memory import RESERVE_NBYTES, give_back_memory

LIMITS = Limits(cpu_seconds=20, seconds=60, nbytes=200_000_000)
SERVER = ForkServer()


def echo(argument: object) -> object:
    os.write(1, b"no part of the answer")
    return argument


def take_memory(nbytes: int) -> None:
    bytearray(nbytes)


def take_time(_: object) -> None:
    while True:
        pass


def wait(seconds: float) -> None:
    time.sleep(seconds)


def abort(_: object) -> None:
    os.abort()


def fail(_: object) -> None:
    raise SystemExit("a \n reason")


def working_folder(_: object) -> str:
    return str(Path.cwd())


def leave_a_trace(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    take_time(None)


def test_a_call_gives_its_answer() -> None:
    assert SERVER.call(echo, {"a": [1, None, "\ud800é"]}, LIMITS) == {"a": [1, None, "\ud800é"]}


@pytest.mark.parametrize(
    ("function", "argument", "limits", "message"),
    [
        (take_memory, 1 << 40, LIMITS, "it takes more than 200 MB of memory, which this process has left for it"),
        (take_memory, 300_000_000, LIMITS, "it takes more than 200 MB of memory"),
        (take_time, None, Limits(1, 60, 1 << 28), "it takes more than 1 seconds of processor time"),
        (wait, 60, Limits(20, 1, 1 << 28), "it takes more than 1 seconds"),
        (abort, None, LIMITS, "the library ended with SIGABRT"),
        (fail, None, LIMITS, "SystemExit: a reason"),
    ],
)
def test_a_call_that_exceeds_its_limits_fails_alone(
    function: object, argument: object, limits: Limits, message: str
) -> None:
    assert callable(function)
    with pytest.raises(CallFailed, match=f"^{message}"):
        SERVER.call(function, argument, limits)
    assert SERVER.call(echo, 1, LIMITS) == 1


def test_a_call_gets_no_more_memory_than_the_system_has_left() -> None:
    give_back_memory()
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 150_000_000, limits[1]))
    try:
        with pytest.raises(CallFailed, match=r"it takes more than \d+ MB of memory"):
            SERVER.call(take_memory, 120_000_000, LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


def test_a_server_outlives_the_folder_that_its_caller_was_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, server = tmp_path / "gone", ForkServer()
    folder.mkdir()
    monkeypatch.chdir(folder)
    try:
        assert server.call(echo, 1, LIMITS) == 1
        folder.rmdir()
        assert server.call(working_folder, None, LIMITS) == "/"
    finally:
        server.close()


def test_a_server_that_ended_is_started_again() -> None:
    server = ForkServer()
    try:
        pids = set()
        for _ in range(2):
            assert server.call(echo, 1, LIMITS) == 1
            assert server._process is not None
            pids.add(server._process.pid)
            os.kill(server._process.pid, 9)
        assert len(pids) == 2
    finally:
        server.close()


def test_an_interrupted_call_ends_its_process(tmp_path: Path) -> None:
    trace = tmp_path / "pid"

    def interrupt() -> None:
        while not (trace.exists() and trace.read_text()):
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    server = ForkServer()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        server.call(leave_a_trace, str(trace), LIMITS)
    until = time.monotonic() + 10
    while is_running(int(trace.read_text())):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process is neither gone nor waits to be reaped."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_call_without_enough_memory_left_says_nothing_about_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(LIMITS, least_nbytes=150_000_000)
    monkeypatch.setattr(fork_server, "memory_left", lambda: RESERVE_NBYTES + 100_000_000)
    with pytest.raises(CallNotMade, match="found 100 MB of memory left for it, expected 150 MB"):
        SERVER.call(take_memory, 120_000_000, limits)
    monkeypatch.setattr(fork_server, "memory_left", lambda: RESERVE_NBYTES + 160_000_000)
    with pytest.raises(CallFailed, match="it takes more than 160 MB of memory, which") as raised:
        SERVER.call(take_memory, 200_000_000, limits)
    assert not isinstance(raised.value, CallNotMade)


def test_a_server_that_does_not_become_ready_makes_no_call() -> None:
    with pytest.raises(CallNotMade, match="ended before it was ready"):
        ForkServer(preload=("no.such.module",)).call(echo, 1, LIMITS)


def test_memory_of_idle_servers_is_given_back() -> None:
    server = ForkServer()
    server.call(echo, 1, LIMITS)
    process = server._process
    assert process is not None
    give_back_memory()
    assert process.poll() == -signal.SIGKILL
    assert server.call(echo, 2, LIMITS) == 2
