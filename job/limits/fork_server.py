"""Calls functions in processes of their own, with limits on time and memory: what a file makes a library do there ends
that process alone.

A server, itself a process, imports what the functions need, once, and forks for each call. It does nothing else, so no
lock is held when it forks, whatever threads the caller has. It ends when it has had nothing to do for a while.
"""

import atexit
import importlib
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import IO, Final

from job.errors import TransientError
from job.limits.memory import GIVES_BACK, RESERVE_NBYTES, give_back_memory, megabytes, memory_left

IDLE_SECONDS: Final = 5
"""After which a server ends. What it imported for model classes takes 300 MB."""
MAX_ANSWER: Final = 512 << 20
"""In bytes. A name of 100 bytes for each of a million rows takes a fifth of it."""

_PROGRAM: Final = (
    "import os, sys; os.environ['HF_HUB_OFFLINE'] = '1'; sys.path[:0] = [sys.argv[1]]; "
    "from job.limits.fork_server import serve; serve(sys.argv[2:])"
)
"""Offline, because a file could make a library ask servers for other files that it names."""
_CALL, _ANSWER = struct.Struct("<QQQQQ"), struct.Struct("<qQ")
"""Bytes of the call, and its limits; how its process ended, and bytes of the answer."""
_OUT_OF_MEMORY, _TOO_LONG, _FAILED = 96, 97, 98
_WANTS_MEMORY: Final = (_OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGKILL)
"""How a process may end that gets no memory: in Python, in Rust or C++, by the kernel."""


class CallFailed(Exception):
    """The process did not give an answer. The message says why, as the end of a sentence."""


class CallNotMade(CallFailed):
    """There was no process that could make the call. This says nothing about what was to be called."""


@dataclass(frozen=True)
class Limits:
    """What a call may take."""

    cpu_seconds: int
    seconds: int
    """By the clock, for a process that waits for something."""
    nbytes: int
    """Memory beyond what the server has imported. A call never gets more than the system has left: where a process
    outgrows a container, Kubernetes kills all processes in it, not only this one."""
    least_nbytes: int = 0
    """If the call fails for want of memory and had less than this, that says nothing about it."""


@dataclass(eq=False)
class ForkServer:
    """The server for some functions. Threads may call at once; their calls run one after another."""

    preload: Sequence[str] = ()
    """Modules that the functions import."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def call(self, function: Callable[..., object], argument: object, limits: Limits) -> object:
        """``function(argument)``. Argument and answer are values of JSON; the function is one of a module.

        Raises:
            CallNotMade: there is too little memory for it.
            CallFailed: the function raised an error, or its process exceeded the limits or ended in another way.
            TransientError: no process can be started.
        """
        call = json.dumps([function.__module__, function.__qualname__, argument]).encode()
        with self._lock:
            # If there is no answer, the server had ended, as it does when it is idle.
            ended = self._exchange(call, limits) or self._exchange(call, limits)
        if ended is None:
            raise CallFailed("the process that was to read it ended; the system may have no memory left")
        if isinstance(ended, str):
            raise CallFailed(ended)
        value: object = json.loads(ended)
        return value

    def _exchange(self, call: bytes, limits: Limits) -> bytes | str | None:
        """The answer to a call, or why there is none; None if the server has ended."""
        try:
            process = self._process
            if process is None:
                if memory_left() < limits.nbytes + RESERVE_NBYTES:
                    give_back_memory()
                process = self._process = self._start()
                if process.stdout is None or _read(process.stdout) is None:
                    raise CallNotMade(
                        "the process for it ended before it was ready; the system may have no memory left"
                    )
            if process.stdin is None or process.stdout is None:
                raise ValueError("the server has no pipes")
            limits = replace(limits, nbytes=self._memory_for_call(limits))
            with suppress(BrokenPipeError):
                process.stdin.write(_CALL.pack(len(call), *astuple(limits)) + call)
                process.stdin.flush()
            ended = _read(process.stdout)
        except BaseException:  # a signal's too: what is still to come would be taken for the next call's answer
            self.close()
            raise
        if ended is None:
            self.close()
            return None
        status, answer = ended
        if status in _WANTS_MEMORY and limits.nbytes < limits.least_nbytes:
            self.close()  # which holds memory itself
            raise CallNotMade(
                f"found {megabytes(limits.nbytes)} of memory left for it, expected {megabytes(limits.least_nbytes)}"
            )
        return answer if status == 0 else _why(status, answer, limits)

    def _memory_for_call(self, limits: Limits) -> int:
        """The bytes that a call may take: as many as its limits say, or as are left."""
        left = memory_left() - RESERVE_NBYTES
        if left < limits.nbytes:
            give_back_memory()
            left = memory_left() - RESERVE_NBYTES
        return min(limits.nbytes, max(0, left))

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[2]), *self.preload]
        try:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, with a program of its own
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a library in Rust prints a backtrace when it panics
                cwd="/",  # the caller's folder may be removed, and then libraries cannot be imported
                start_new_session=True,  # so that it and its forks end together, and not by Ctrl-C
            )
        except OSError as error:
            raise TransientError(
                f"fork server: found that no process can be started ({error}), expected one; free some memory"
            ) from error
        atexit.register(self.close)
        GIVES_BACK.add(self._close_if_idle)
        return process

    def close(self) -> None:
        """End the server, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.close)
            GIVES_BACK.discard(self._close_if_idle)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def _close_if_idle(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._lock.release()


def _read(stream: IO[bytes]) -> tuple[int, bytes] | None:
    header = stream.read(_ANSWER.size)
    if len(header) < _ANSWER.size:
        return None
    status, nbytes = _ANSWER.unpack(header)
    answer = stream.read(nbytes)
    return (status, answer) if len(answer) == nbytes else None


def _why(status: int, answer: bytes, limits: Limits) -> str:
    """Why a call has no answer, as the end of a sentence."""
    match status:
        case _ if status == _FAILED:
            return answer.decode(errors="replace")
        case _ if status == _OUT_OF_MEMORY:
            return f"it takes more than {megabytes(limits.nbytes)} of memory, which this process has left for it"
        case _ if status == _TOO_LONG:
            return f"the answer takes more than {MAX_ANSWER:,} bytes"
        case _ if status == -signal.SIGABRT:  # as libraries in Rust and C++ end if they get no memory
            return (
                f"the library ended with SIGABRT, as it may with only {megabytes(limits.nbytes)} of memory left for it"
            )
        case _ if status == -signal.SIGXCPU:
            return f"it takes more than {limits.cpu_seconds:,} seconds of processor time"
        case _ if status == -signal.SIGALRM:
            return f"it takes more than {limits.seconds:,} seconds"
    with suppress(ValueError):
        return f"the library ended with {signal.Signals(-status).name}"
    return f"the library ended with status {status}"


def serve(preload: Sequence[str]) -> None:
    """The server: answer the calls on standard input, until it ends or nothing comes for a while."""
    calls, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 0)
    os.dup2(2, 1)  # what a library prints is no part of an answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process goes first
    for module in preload:
        importlib.import_module(module)
    _write(answers, 0, b"")  # ready
    while select.select([calls], [], [], IDLE_SECONDS)[0]:
        header = _read_exactly(calls, _CALL.size)
        if len(header) < _CALL.size:
            return
        nbytes, *limits = _CALL.unpack(header)
        status, answer = _in_a_fork(_read_exactly(calls, nbytes), Limits(*limits))
        _write(answers, status, answer)


def _write(answers: IO[bytes], status: int, answer: bytes) -> None:
    answers.write(_ANSWER.pack(status, len(answer)))
    answers.write(answer)
    answers.flush()


def _read_exactly(stream: IO[bytes], nbytes: int) -> bytes:
    content = bytearray()
    while len(content) < nbytes and (piece := stream.read(nbytes - len(content))):
        content += piece
    return bytes(content)


def _in_a_fork(call: bytes, limits: Limits) -> tuple[int, bytes]:
    """How a process that runs the call ended, and its answer."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(receiver)
        os._exit(_answer(call, limits, sender))
    os.close(sender)
    with os.fdopen(receiver, "rb") as stream:
        answer = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), answer


def _answer(call: bytes, limits: Limits, sender: int) -> int:
    """Write the call's answer, or why it failed. Returns the exit status."""
    try:
        _limit_this_process(limits)
        module, name, argument = json.loads(call)
        answer = json.dumps(getattr(importlib.import_module(module), name)(argument)).encode()
        if len(answer) > MAX_ANSWER:
            return _TOO_LONG
        status = 0
    except MemoryError:
        return _OUT_OF_MEMORY
    except BaseException as error:  # noqa: BLE001 - whatever a library raises, Rust's panics too, costs this call alone
        answer, status = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".encode(), _FAILED
    with os.fdopen(sender, "wb") as stream:
        stream.write(answer)
    return status


def _limit_this_process(limits: Limits) -> None:
    signal.alarm(limits.seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 5))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    nbytes = _data_nbytes() + limits.nbytes
    if hard_limit == resource.RLIM_INFINITY or hard_limit > nbytes:
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))


def _data_nbytes() -> int:
    """What counts towards RLIMIT_DATA already: the server's memory, which a fork has too. 0 where the system does not
    tell, and does not limit it."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
