"""What the zoo's line at the end of a test run says: how many architectures were found, and which were not."""

from collections.abc import Iterable

import pytest

from tests.zoo.overrides import NOT_BUILDABLE, WITHOUT_OUTPUT_EMBEDDING

TEST = "test_the_bytes_found_are_the_output_embedding"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count architectures, each found only if it was found tied and untied. Works from reports, so under xdist too."""
    found = _architectures(terminalreporter.stats.get("passed", []))
    missed = _architectures(terminalreporter.stats.get("failed", []))
    if not found | missed:
        return
    terminalreporter.section("zoo: W found, of the architectures that transformers builds small")
    terminalreporter.line(f"found  {len(found - missed)} of {len(found | missed)}")
    for name in sorted(missed):
        terminalreporter.line(f"missed {name}")
    for name, why in NOT_BUILDABLE.items():
        terminalreporter.line(f"cannot be built: {name}: {why}")
    for name, parameter in WITHOUT_OUTPUT_EMBEDDING.items():
        outcome = f"found by name, {parameter}" if parameter else "refused"
        terminalreporter.line(f"says it has no output embedding: {name}: {outcome}")


def _architectures(reports: Iterable[object]) -> set[str]:
    return {
        str(value)
        for report in reports
        if isinstance(report, pytest.TestReport) and TEST in report.nodeid
        for key, value in report.user_properties
        if key == "architecture"
    }
