"""What was required of the job, and what was found."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.results import JOB, Key, Medians, Run, Tensors
from benchmarks.servers import UP_RATE

GB: Final = 1e9
MIN_JUDGED_NBYTES: Final = 5e8
"""Of a smaller W, seconds are mostly those of start-up."""

TO_S3: Final = ("HTTP → S3", "HTTP → S3, shaped", "HTTP → S3, shaped, 50 ms")


@dataclass(frozen=True)
class Requirement:
    """A line of the table of requirements."""

    what: str
    limit: float
    found: float
    unit: str = "×"

    @property
    def ratio(self) -> float:
        """Of what was found to what was allowed: at most 1 if it is met."""
        return self.found / self.limit if self.limit else float("inf")


def requirements(medians: Medians) -> Iterator[Requirement]:
    """Those about which something was measured."""
    for w_nbytes in sorted({key.w_nbytes for key in medians if key.w_nbytes >= MIN_JUDGED_NBYTES}):
        of_size = _OfSize(medians, w_nbytes)
        yield from of_size.local()
        yield from of_size.tokens()
        yield from of_size.processor()
        yield from of_size.shaped()
    yield from _peaks(medians)
    yield from _many(medians)


@dataclass(frozen=True)
class _OfSize:
    medians: Medians
    w_nbytes: int

    def run(self, route: str, who: str = JOB, tensors: Tensors = "all tensors") -> Run | None:
        return self.medians.get(Key(route, who, self.w_nbytes, tensors))

    def what(self, text: str) -> str:
        return f"W of {self.w_nbytes / GB:.2f} GB, {text}"

    def local(self) -> Iterator[Requirement]:
        route = "folder → folder"
        job, script, copy = self.run(route), self.run(route, "script"), self.run(route, "plain copy")
        if job and script and copy:
            yield Requirement(self.what(f"{route}: seconds, of the script's"), 1.0, job.wall / script.wall)
            yield Requirement(self.what(f"{route}: seconds, of the plain copy's"), 1.3, job.wall / copy.wall)
            yield Requirement(self.what(f"{route}: peak memory, of the script's"), 1 / 8, job.peak_of_all / script.peak)
        job, script = (self.run(route, who, "mu and black holes") for who in (JOB, "script"))
        if job and script:
            few = self.what(f"{route}, mu and black holes")
            yield Requirement(f"{few}: seconds, of the script's", 0.5, job.wall / script.wall)
            yield Requirement(f"{few}: core-seconds, of the script's", 0.5, job.cpu / script.cpu)

    def tokens(self) -> Iterator[Requirement]:
        for route in ("folder → folder", "HTTP → folder"):
            job, without = self.run(route, tensors="all tensors and tokens"), self.run(route)
            if job and without:
                what = self.what(f"{route}, tokens too, reachability apart: seconds, of those without tokens")
                yield Requirement(what, 1.1, (job.wall - job.reachability) / without.wall)

    def processor(self) -> Iterator[Requirement]:
        copy = self.run("folder → folder", "plain copy")
        for route, limit in (("folder → folder", 2.5), ("HTTP → folder", 4.5), ("TLS → folder", 6.5)):
            if (job := self.run(route)) and copy:
                what = self.what(f"{route}: core-seconds beyond the plain copy's, a GB of W")
                yield Requirement(what, limit, (job.cpu - copy.cpu) / (self.w_nbytes / GB), "s")
        if job := self.run("HTTP → folder"):
            yield Requirement(self.what("HTTP → folder: start to first byte of W asked for"), 0.6, job.first_byte, "s")
        for route in ("HTTP → folder", *TO_S3):
            if job := self.run(route):
                yield Requirement(self.what(f"{route}: bytes read, of W's"), 1.01, job.sent_nbytes / self.w_nbytes)

    def shaped(self) -> Iterator[Requirement]:
        for route in TO_S3[1:]:
            if job := self.run(route):
                floor = job.stored_nbytes / (job.parts_in_flight * UP_RATE) + job.first_byte
                parts = f"{job.parts_in_flight:.0f} parts × 20 MB/s"
                what = self.what(f"{route}: seconds, of start-up + bytes up ÷ ({parts}) = {floor:.1f} s")
                yield Requirement(what, 1.15, job.wall / floor)


def _peaks(medians: Medians) -> Iterator[Requirement]:
    for key, run in medians.items():
        if key.who == JOB and key.route in TO_S3:
            what = f"W of {key.w_nbytes / GB:.2f} GB, {key.route}: peak memory of"
            yield Requirement(f"{what} its largest process", 500, run.peak / 1e6, "MB")
            yield Requirement(f"{what} all processes together", 500, run.peak_of_all / 1e6, "MB")
            if stated := medians.get(Key(f"{TO_S3[0]}, as a plan states", JOB, key.w_nbytes)):
                yield Requirement(f"{what} all processes, of what a plan states", 1.0, run.peak_of_all / stated.peak)
    of_s3 = [(key.w_nbytes, run) for key, run in medians.items() if key.who == JOB and key.route == TO_S3[0]]
    peaks = {w_nbytes: run.peak_of_all for w_nbytes, run in of_s3}
    if len(peaks) > 1:
        smallest, largest = min(peaks), max(peaks)
        what = f"{TO_S3[0]}: peak memory with {largest / GB:.1f} GB, of that with {smallest / GB:.1f} GB"
        yield Requirement(what, 1.1, peaks[largest] / peaks[smallest])


def _many(medians: Medians) -> Iterator[Requirement]:
    for what, limit in (("100 new", 4.0), ("100 published", 1.5)):
        if run := medians.get(Key(f"folder → folder, {what}", JOB)):
            yield Requirement(f"folder → folder, {what} small models", limit, run.wall, "s")
    for what, to_the_hub in (("new", 6), ("published", 1), ("published, in a plan", 1)):
        if run := medians.get(Key(f"Hub → S3, each further {what}", JOB)):
            # A header's range comes from the CDN. Only a model that is read needs one.
            found = run.hub_requests + (run.header_requests if what != "new" else 0)
            yield Requirement(f"a model that is {what}: requests to the Hub besides its ranges", to_the_hub, found, "")
            if what != "new":
                yield Requirement(f"a model that is {what}: requests to the store", 2, run.store_requests, "")
    if run := medians.get(Key("Hub → S3, 1 new", JOB)):
        yield Requirement("a small model on the Hub: start to first byte of W asked for", 0.6, run.first_byte, "s")
