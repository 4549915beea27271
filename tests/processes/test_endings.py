"""How the job ends, as a process: its exit status, its termination message and its metrics, whatever else happens."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest

from entrypoint import main
from tests.checkpoints import planted, write_checkpoint
from tests.openmetrics import read_openmetrics
from tests.servers.plain_s3 import plain_s3

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, runpy, signal, sys, time
import job.ending
job.ending.GRACE_SECONDS = job.ending.LAST_SECONDS = 1
{before}
sys.argv[0] = "entrypoint.py"
runpy.run_path("entrypoint.py", run_name="__main__")
"""
"""The job with less time to end in, and with what happens to it."""

DURING_A_SURVEY = """
import job.survey
from job.errors import ConfigError, CorruptCheckpoint, TransientError
whole = job.survey.survey_model
def survey_model(*arguments, **options):
{happens}
    return whole(*arguments, **options)
job.survey.survey_model = survey_model
"""

AT_AN_IMPORT = """
class Killer:
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Killer())
"""


AT_THE_SUMMARY = """
import job.report.terminal as terminal
def print_changes(*arguments, printed=terminal.print_changes):
    os.kill(os.getpid(), signal.{signal})
    printed(*arguments)
terminal.print_changes = print_changes
"""


def happens(*lines: str) -> str:
    """This, before a model is surveyed."""
    return DURING_A_SURVEY.format(happens="\n".join(f"    {line}" for line in lines))


def signals(*names: str) -> str:
    """These signals while a model is surveyed: the first, and each other while the run cleans up after the last."""
    lines = ["try:", f"    os.kill(os.getpid(), signal.{names[0]})", "    time.sleep(60)", "finally:"]
    return happens(*lines, *(f"    os.kill(os.getpid(), signal.{name})" for name in names[1:]), "    time.sleep(0.2)")


UNINTERRUPTED = happens(
    "import hashlib, threading",
    "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()",
    "hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)",
)
"""As the lookup of a host's name is where no server answers: Python's handlers have to wait for its end."""


def killed_at(name: str, number: str = "SIGTERM") -> str:
    """A signal when this module is imported."""
    return AT_AN_IMPORT.format(name=name, signal=number)


@dataclass(frozen=True)
class Surveys:
    """A published model, and the folder with its survey: to survey it again takes half a second."""

    model: Path
    output: Path


@pytest.fixture(scope="module")
def surveys(tmp_path_factory: pytest.TempPathFactory) -> Surveys:
    folder = tmp_path_factory.mktemp("surveys")
    model = write_checkpoint(folder / "one", planted(40, 8, [[3, 9, 21]]), n_tokens=20)
    assert main([str(model), "--output", str(folder / "out")]) == 0
    return Surveys(model, folder / "out")


@dataclass(frozen=True)
class Left:
    """What a process left behind."""

    status: int
    message: str | None
    """The first line of the termination message; None without one."""
    metric: float | None
    """The exit status in the metrics' file; None without one."""
    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True)
class Job:
    """A process of the job that is to end."""

    folder: Path
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def message(self) -> Path:
        return self.folder / "message"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics"

    def run(
        self,
        before: str = "",
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        when: Callable[[], bool] | None = None,
        close: tuple[int, ...] = (),
    ) -> Left:
        """Run to the end. ``when``: SIGTERM is sent as soon as this is true. ``close``: streams that are closed."""
        redirected = " ".join(f"{number}>&-" for number in close)
        command = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", PROGRAM.format(before=before)]
        environment = {**os.environ, "METRICS_FILE": str(self.metrics), "TERMINATION_MESSAGE": str(self.message)}
        started = time.monotonic()
        with subprocess.Popen(
            [*command, *self.command], cwd=ROOT, env=environment | self.environment, stdout=stdout, stderr=stderr
        ) as process:
            try:
                if when:
                    while not when():
                        assert process.poll() is None
                        assert time.monotonic() < started + 60
                        time.sleep(0.02)
                    process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
        metrics = read_openmetrics(self.metrics.read_text()) if self.metrics.is_file() else {}
        return Left(
            process.returncode,
            self.message.read_text().partition("\n")[0] if self.message.is_file() else None,
            metrics.get("exit_status"),
            (out or b"").decode(errors="replace"),
            (err or b"").decode(errors="replace"),
            time.monotonic() - started,
        )


@pytest.fixture
def job(surveys: Surveys, tmp_path: Path) -> Job:
    return Job(tmp_path, [str(surveys.model), "--output", str(surveys.output)])


@pytest.fixture
def planned(surveys: Surveys, tmp_path: Path) -> Job:
    return Job(tmp_path, ["plan", str(surveys.model), "--output", str(surveys.output)])


PUBLISHED = "exit status 0: 1 already published"
FAILED = "exit status {}: 1 failed"
NOT_REACHED = "exit status {}: 1 not reached"

ENDINGS = {
    "clean": ("", 0, PUBLISHED),
    "model": (happens('raise CorruptCheckpoint("a: is not whole")'), 65, FAILED),
    "transient": (happens('raise TransientError("a: no answer")'), 75, FAILED),
    "config": (happens('raise ConfigError("a: refused")'), 78, FAILED),
    "bug": (happens('raise KeyError("a")'), 1, NOT_REACHED),
    "TERM": (signals("SIGTERM"), 143, NOT_REACHED),
    "INT": (signals("SIGINT"), 130, NOT_REACHED),
    "HUP": (signals("SIGHUP"), 129, NOT_REACHED),
    "TERM-TERM": (signals("SIGTERM", "SIGTERM"), 143, NOT_REACHED),
    "TERM-INT": (signals("SIGTERM", "SIGINT"), 143, NOT_REACHED),
    "TERM-HUP": (signals("SIGTERM", "SIGHUP"), 143, NOT_REACHED),
    "INT-TERM": (signals("SIGINT", "SIGTERM"), 130, NOT_REACHED),
    "INT-INT-INT": (signals("SIGINT", "SIGINT", "SIGINT"), 130, NOT_REACHED),
    "HUP-TERM-INT": (signals("SIGHUP", "SIGTERM", "SIGINT"), 129, NOT_REACHED),
    "HUP-under-nohup": ("signal.signal(signal.SIGHUP, signal.SIG_IGN)" + happens("os.kill(0, 0)"), 0, PUBLISHED),
    "TERM-swallowed": (
        happens("try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", "except BaseException: pass"),
        143,
        "exit status 143: 1 already published",
    ),
    "TERM-and-cleaning-up-hangs": (signals("SIGTERM") + "\njob.ending.GRACE_SECONDS = 1", 143, NOT_REACHED),
    "TERM-in-a-call-that-none-interrupts": (UNINTERRUPTED, 143, NOT_REACHED),
    "TERM-at-the-job's-import": (killed_at("job.survey"), 143, "exit status 143: no model was reached"),
    "TERM-at-the-summary": (AT_THE_SUMMARY.format(signal="SIGTERM"), 0, PUBLISHED),
    "INT-and-HUP-at-the-summary": (
        AT_THE_SUMMARY.format(signal="SIGINT") + AT_THE_SUMMARY.format(signal="SIGHUP"),
        0,
        PUBLISHED,
    ),
    "a-thread-that-hangs": (
        happens("import threading", "threading.Thread(target=time.sleep, args=(600,)).start()"),
        0,
        PUBLISHED,
    ),
}
"""What happens, the exit status, and the first line of the termination message."""


@pytest.mark.parametrize(("before", "status", "message"), ENDINGS.values(), ids=ENDINGS)
def test_whatever_ends_a_run_status_message_and_metrics_say_the_same(
    job: Job, before: str, status: int, message: str
) -> None:
    left = job.run(before)
    assert (left.status, left.message, left.metric) == (status, message.format(status), status), left.stderr
    assert ("Traceback" in left.stderr) == (status == 1)


def test_the_most_important_failure_decides(job: Job) -> None:
    kinds = 'kinds = [ConfigError("a: b"), TransientError("a: c"), CorruptCheckpoint("a: d")]\n'
    several = Job(job.folder, [str(job.folder / name) for name in "xyz"] + job.command)
    left = several.run(happens("if kinds: raise kinds.pop()") + kinds)
    message = "exit status 78: 3 failed, 1 already published"
    assert (left.status, left.message, left.metric) == (78, message, 78), left.stderr


@pytest.mark.parametrize("name", ["job.logs", "prometheus_client", "job.report.terminal", "job.survey", "torch"])
@pytest.mark.parametrize("torn", [False, True], ids=["", "swallowed"])
def test_a_signal_while_libraries_are_imported_leaves_its_message(job: Job, name: str, torn: bool) -> None:
    # Of a new model, W has to be measured, by what needs torch.
    new = [job.command[0], "--output", str(job.folder / "out"), "--dedup", "torch-unique"]
    if torn:  # as an import of a library does that tries to do without another
        caught = "try: os.kill(os.getpid(), signal.SIGTERM)\n            except BaseException: raise ImportError"
        before = killed_at(name).replace("os.kill(os.getpid(), signal.SIGTERM)", caught)
    else:
        before = killed_at(name)
    left = Job(job.folder, new).run(before)
    assert (left.status, "Traceback" in left.stderr) == (143, False), left.stderr
    n_models = "1 not reached" if name == "torch" else "no model was reached"
    assert left.message == f"exit status 143: {n_models}"


@pytest.mark.parametrize(
    "name", ["rich.console", "job.settings", "click", "job.logs", "job.plan", "job.report.plan_table"]
)
@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_ends_a_plan_in_each_of_its_phases(planned: Job, name: str, number: str, status: int) -> None:
    left = planned.run(killed_at(name, number))
    assert (left.status, left.stdout, "Traceback" in left.stderr) == (status, "", False), left.stderr


@contextmanager
def full_pipe() -> Iterator[int]:
    """A pipe that nobody reads, and that is full."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"\0" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        except BlockingIOError:
            os.set_blocking(writer, True)
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


def broken_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


STREAMS: dict[str, Callable[[], int]] = {
    "broken": broken_pipe,
    "full": lambda: os.open("/dev/full", os.O_WRONLY),
    "read-only": lambda: os.open(os.devnull, os.O_RDONLY),
}


def run_with(job: Job, stdout: str, stderr: str, before: str = "") -> Left:
    """Run with these kinds of standard output and standard error."""
    closed = tuple(number for number, kind in ((1, stdout), (2, stderr)) if kind == "closed")
    with ExitStack() as opened:
        opens = [STREAMS[kind]() if kind in STREAMS else subprocess.PIPE for kind in (stdout, stderr)]
        for descriptor in opens:
            if descriptor != subprocess.PIPE:
                opened.callback(os.close, descriptor)
        return job.run(before, opens[0], opens[1], close=closed)


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        *((kind, "read") for kind in ("closed", *STREAMS)),
        *(("read", kind) for kind in ("closed", *STREAMS)),
        *((kind, kind) for kind in ("closed", *STREAMS)),
    ],
)
@pytest.mark.parametrize(
    ("before", "status", "message"), [ENDINGS[name] for name in ("clean", "config", "bug")], ids=["0", "78", "1"]
)
def test_streams_that_nobody_reads_change_nothing(
    job: Job, stdout: str, stderr: str, before: str, status: int, message: str
) -> None:
    left = run_with(job, stdout, stderr, before)
    assert (left.status, left.message, left.metric) == (status, message.format(status), status), left.stderr


def test_files_do_not_get_the_numbers_of_closed_streams(job: Job, tmp_path: Path) -> None:
    """A library's print would go into them."""
    printing = happens("os.write(1, b'spam'); os.write(2, b'spam')")
    left = Job(tmp_path, [job.command[0], "--output", str(tmp_path / "out")]).run(printing, close=(1, 2))
    assert left.status == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"spam" in path.read_bytes()] == []


PLAN_STATUS = {"closed": 0, "broken": 0, "full": 75, "read-only": 75}


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize(("stdout", "status"), PLAN_STATUS.items(), ids=PLAN_STATUS)
def test_a_plan_that_cannot_be_written_fails_unless_nobody_wants_it(
    planned: Job, form: str, stdout: str, status: int
) -> None:
    left = run_with(Job(planned.folder, [*planned.command, "--format", form]), stdout, "read")
    assert (left.status, "TransientError: standard output: " in left.stderr) == (status, status == 75), left.stderr


@pytest.mark.parametrize("stream", ["closed", *STREAMS])
@pytest.mark.parametrize(("command", "status"), [("--help", 0), ("--version", 0), ("--no-such-option", 78)])
def test_help_and_wrong_settings_need_no_reader(job: Job, command: str, status: int, stream: str) -> None:
    assert run_with(Job(job.folder, [command]), stream, stream).status == status


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8:surrogateescape"])
def test_output_in_any_encoding_changes_nothing_and_json_stays_json(tmp_path: Path, encoding: str) -> None:
    model = write_checkpoint(tmp_path / "modèle-漢", planted(40, 8, []))
    command = [str(model), "--output", str(tmp_path / "out")]
    environment = {"PYTHONIOENCODING": encoding}
    left = Job(tmp_path, ["plan", *command, "--format", "json"], environment).run()
    assert left.status == 0, left.stderr
    assert [entry["model"] for entry in json.loads(left.stdout)["models"]] == [str(model)]
    assert Job(tmp_path, command, environment).run().status == 0


def test_a_terminal_that_does_not_wait_gets_the_whole_output(planned: Job, surveys: Surveys) -> None:
    """A parent may have made the pipe non-blocking: a slow reader must not cost what it has not read yet."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    models = [str(surveys.model), *(str(planned.folder / f"{'missing' * 30}{number}") for number in range(300))]
    chunks: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reader, 5000):
            chunks.append(chunk)
            time.sleep(0.001)

    thread = Thread(target=read)
    thread.start()
    left = Job(planned.folder, ["plan", *models, "--format", "json", "--output", str(surveys.output)]).run(
        stdout=writer
    )
    os.close(writer)
    thread.join()
    os.close(reader)
    assert left.status == 65
    assert len(json.loads(b"".join(chunks))["models"]) == 301


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def link_to_fifo(folder: Path) -> Path:
    (folder / "link").symlink_to(fifo(folder))
    return folder / "link"


def link_to_standard_output(folder: Path) -> Path:
    """As /dev/stdout is one. A test leaves that alone: it would be lost if the job replaced it."""
    (folder / "stdout").symlink_to("/proc/self/fd/1")
    return folder / "stdout"


def unix_socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return folder / "socket"


@pytest.fixture
def terminal() -> Iterator[Path]:
    """A device that nobody misses."""
    controller, device = os.openpty()
    yield Path(os.ttyname(device))
    os.close(controller)
    os.close(device)


@pytest.mark.parametrize(
    "place",
    [lambda _: Path("/dev/full"), lambda folder: folder / "no" / "folder", fifo],
    ids=["full", "missing-folder", "fifo"],
)
def test_a_termination_message_that_cannot_be_written_changes_nothing(job: Job, place: Callable[[Path], Path]) -> None:
    path = str(place(job.folder))
    left = Job(job.folder, job.command, {"TERMINATION_MESSAGE": path}).run()
    assert (left.status, left.metric, f"TERMINATION_MESSAGE: {path}: " in left.stderr) == (0, 0, True)
    assert Job(job.folder, job.command, {"TERMINATION_MESSAGE": path}).run(signals("SIGTERM")).status == 143


def assert_metrics_are_refused(job: Job, path: Path, stdout: int = subprocess.PIPE) -> None:
    before = path.lstat()
    left = Job(job.folder, job.command, {"METRICS_FILE": str(path)}).run(stdout=stdout)
    assert (left.status, left.message) == (78, "exit status 78: no model was reached"), left.stderr
    assert f"ConfigError: METRICS_FILE: {path}: found a device, a pipe or the run's own output" in left.stderr
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("place", [fifo, link_to_fifo, link_to_standard_output, unix_socket])
def test_a_metrics_file_that_is_no_file_is_a_wrong_setting(job: Job, place: Callable[[Path], Path]) -> None:
    assert_metrics_are_refused(job, place(job.folder))


def test_a_metrics_file_that_is_a_device_is_a_wrong_setting(job: Job, terminal: Path) -> None:
    assert_metrics_are_refused(job, terminal)


def test_a_metrics_file_that_is_the_runs_own_output_is_a_wrong_setting(job: Job, tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as output:
        assert_metrics_are_refused(job, link_to_standard_output(tmp_path), output.fileno())
        assert_metrics_are_refused(job, tmp_path / "output", output.fileno())


def test_a_link_to_a_metrics_file_stays_a_link(job: Job, tmp_path: Path) -> None:
    (tmp_path / "real").touch()
    job.metrics.symlink_to("real")
    assert job.run().metric == 0
    assert job.metrics.is_symlink()


def test_metrics_that_cannot_be_written_any_more_change_nothing(job: Job) -> None:
    left = job.run(happens("import resource", "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"))
    assert (left.status, left.message, left.metric) == (0, PUBLISHED, None), left.stderr
    assert "METRICS_FILE: " in left.stderr
    assert [path.name for path in job.folder.iterdir() if "unfinished" in path.name] == []


@contextmanager
def listening() -> Iterator[tuple[str, socket.socket]]:
    """A server that accepts connections and never answers; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", server


KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


def test_a_store_that_never_answers_does_not_keep_the_message_from_being_written(job: Job) -> None:
    with listening() as (address, server):
        server.setblocking(False)
        environment = KEYS | {"AWS_ENDPOINT_URL": address}
        hung = Job(job.folder, [job.command[0], "--output", "s3://bucket"], environment)
        accepted: list[socket.socket] = []

        def connected() -> bool:
            try:
                accepted.append(server.accept()[0])
            except BlockingIOError:
                return False
            return True

        left = hung.run(when=connected)
        accepted[0].close()
    assert (left.status, left.message, left.metric) == (143, "exit status 143: no model was reached", 143)


def test_an_upload_that_hangs_ends_when_the_time_of_grace_is_over(job: Job) -> None:
    with plain_s3() as store:
        store.hangs_at = "W.safetensors"
        hung = Job(job.folder, [job.command[0], "--output", "s3://bucket"], KEYS | {"AWS_ENDPOINT_URL": store.endpoint})
        left = hung.run(when=store.has_hung.is_set)
    assert (left.status, left.message, left.metric) == (143, NOT_REACHED.format(143), 143), left.stderr


SHORT_TIMEOUT = "import job.monitor.pushgateway; job.monitor.pushgateway._TIMEOUT = 0.3"


def test_a_pushgateway_that_never_answers_changes_nothing(job: Job) -> None:
    with listening() as (address, _):
        left = Job(job.folder, job.command, {"PUSHGATEWAY": address}).run(SHORT_TIMEOUT)
    assert (left.status, left.message, left.metric) == (0, PUBLISHED, 0)
    assert "PUSHGATEWAY: 127.0.0.1 did not accept the metrics" in left.stderr


def test_a_summary_that_waits_for_its_reader_is_given_up_on_sigterm(job: Job) -> None:
    with full_pipe() as writer:
        left = job.run(stdout=writer, when=job.message.exists)
    assert (left.status, left.message, left.metric) == (0, PUBLISHED, 0)


def test_a_log_that_waits_for_its_reader_is_given_up_on_sigterm(job: Job) -> None:
    with full_pipe() as writer:
        left = job.run(stderr=writer, when=job.metrics.exists)
    assert (left.status, left.message, left.metric) == (143, "exit status 143: no model was reached", 143)


TOLD = """
import job.report.plan_table as plan_table
def print_plan(*arguments, printed=plan_table.print_plan):
    os.mknod({path!r})
    printed(*arguments)
plan_table.print_plan = print_plan
"""


def test_a_plan_that_waits_for_its_reader_is_not_delivered_on_sigterm(planned: Job) -> None:
    told = planned.folder / "told"
    with full_pipe() as writer:
        left = planned.run(TOLD.format(path=str(told)), stdout=writer, when=told.exists)
    assert left.status == 143
