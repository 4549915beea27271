"""OpenMetrics text, read by prometheus_client's strict parser."""

from prometheus_client.openmetrics import parser

PREFIX = "black_hole_survey_"


def read_openmetrics(text: str) -> dict[str, float]:
    """Every sample by its name, without the job's prefix, and its labels' values."""
    families = list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # it has no types
    assert all(family.name.startswith(PREFIX) for family in families)
    return {
        " ".join([sample.name.removeprefix(PREFIX), *(sample.labels[name] for name in sorted(sample.labels))]): float(
            sample.value
        )
        for family in families
        for sample in family.samples
    }
