"""What `make bench` makes of its measurements."""

from dataclasses import replace

import pytest

from benchmarks.requirements import requirements
from benchmarks.results import JOB, Key, Results, Run
from benchmarks.table import markdown, page

W_NBYTES = 778_000_000
COPY = Run(wall=2.0, cpu=1.0, peak=19e6, peak_of_all=19e6)
SCRIPT = Run(wall=4.0, cpu=5.0, peak=3.2e9, peak_of_all=3.2e9)


def measured(wall: float) -> Results:
    results = Results()
    results.runs[Key("folder → folder", "plain copy", W_NBYTES)] = [COPY]
    results.runs[Key("folder → folder", "script", W_NBYTES)] = [SCRIPT]
    job = Run(wall, cpu=2.0, peak=0.3e9, peak_of_all=0.4e9)
    results.runs[Key("folder → folder", JOB, W_NBYTES)] = [job, replace(job, wall=99.0), replace(job, wall=0.0)]
    return results


@pytest.mark.parametrize(("wall", "ratios"), [(2.5, [2.5 / 4.0, 2.5 / 2.0 / 1.3]), (8.0, [2.0, 4.0 / 1.3])])
def test_the_median_of_the_rounds_is_compared_with_the_rulers(wall: float, ratios: list[float]) -> None:
    of_script, of_copy, *_ = requirements(measured(wall).medians())
    assert [of_script.ratio, of_copy.ratio] == pytest.approx(ratios)


@pytest.mark.parametrize(("wall", "met"), [(2.5, ["yes", "yes", "yes", "yes"]), (5.0, ["no", "no", "yes", "yes"])])
def test_the_page_tells_what_is_met_and_what_is_not(wall: float, met: list[str]) -> None:
    lines = page(measured(wall), {"cores": "2"}, "job, 3 rounds").splitlines()
    assert [line.rsplit("|", 2)[1].strip() for line in lines if line.startswith("| W of")] == met


def test_figures_stand_to_the_right_and_words_to_the_left() -> None:
    assert list(markdown(["what", "MB"], [["all of it", "7"], ["W", "1,024"]])) == [
        "| what      |    MB |",
        "| --------- | ----: |",
        "| all of it |     7 |",
        "| W         | 1,024 |",
    ]
