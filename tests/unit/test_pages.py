"""Pages: what is said on them cannot run or load anything, and their columns hold what was put in."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from job.geometry.distances import distances
from job.report.pages import document
from job.report.pages.columns import MAX_TEXT, number_column, shown_text, text_column
from job.report.pages.document import Page, page_bytes, template
from job.report.pages.token_rows import read_rows
from job.report.text import escape
from job.tokens.table import write_table
from tests.pages import ParsedPage, assert_harmless
from tests.token_tables import BEYOND, Row, numbers_of, write_columns

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]></style><img src=x onerror=alert(1)>",
    "\u202edrowssap\u2066",
    "nul \0 and \ud800 alone",
    "'\"><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "line\nfeed\ttab\u2028\x85",
    "x" * 10_000,
    "=cmd()",
    "&lt;b&gt;",
)


@pytest.fixture
def hostile_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A template that shows texts everywhere a page does."""
    monkeypatch.setattr(document, "_FOLDER", tmp_path)
    (tmp_path / "hostile.html.j2").write_text(
        '<main>{% for text in texts %}<p title="{{ text }}">{{ text|shown }}</p>{% endfor %}</main>'
    )
    (tmp_path / "page.css").write_text("p { color: red }")
    (tmp_path / "one.js").write_text('"use strict"; const one = "ä";')
    (tmp_path / "two.js").write_text('"use strict"; const two = 2 < 3;')
    for cached in (template, document._source):
        cached.cache_clear()
    yield "hostile.html.j2"
    for cached in (template, document._source):
        cached.cache_clear()


def test_hostile_texts_run_nothing_wherever_they_stand(hostile_template: str) -> None:
    page = ParsedPage(
        page_bytes(
            Page(
                title="".join(HOSTILE),
                body=template(hostile_template).render(texts=HOSTILE),
                scripts=("one.js", "two.js"),
                columns={"text": text_column(HOSTILE)},
                facts={"texts": list(HOSTILE), "nan": math.nan, "nested": {"</script>": ["<!--"]}},
            )
        )
    )
    assert_harmless(page)
    assert [element.tag for element in page.elements] == ["style", *["script"] * 4]
    assert page.column("text") == [shown_text(text) for text in HOSTILE]
    assert page.facts["texts"] == [text.replace("\ud800", "\\ud800") for text in HOSTILE]
    assert (page.facts["nan"], page.facts["nested"]) == (None, {"</script>": ["<!--"]})
    shown = "".join(page.texts)
    assert all(shown_text(text) in shown for text in HOSTILE)


@pytest.mark.parametrize("part", ["</script >", "<!-- x", "</STYLE>"])
def test_a_script_that_would_end_its_own_tag_is_refused(hostile_template: str, tmp_path: Path, part: str) -> None:
    (tmp_path / "one.js").write_text(f'"{part}"')
    with pytest.raises(ValueError, match=r"one\.js"):
        page_bytes(Page("title", template(hostile_template).render(texts=()), ("one.js",)))


@pytest.mark.usefixtures("hostile_template")
@given(st.lists(st.text(st.characters(codec=None), max_size=3 * MAX_TEXT), max_size=20))
def test_a_column_holds_every_text_as_it_is_shown(texts: list[str]) -> None:
    column = ParsedPage(page_bytes(Page("title", "", columns={"text": text_column(texts)}))).column("text")
    assert column == [shown_text(text) for text in texts]
    for text, shown in zip(texts, column, strict=True):
        assert shown.isprintable()
        if len(text) <= MAX_TEXT:
            assert shown == escape(text)
        else:
            assert shown.endswith(f"{len(text) - MAX_TEXT:,} more characters")


@pytest.mark.usefixtures("hostile_template")
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16, np.int32, ">f4", ">u2"])
def test_a_column_holds_every_number(dtype: str) -> None:
    rng = np.random.default_rng(0)
    size = np.dtype(dtype).itemsize
    values: NDArray[np.float32] = np.frombuffer(rng.bytes(1000 * size), dtype)
    found = ParsedPage(page_bytes(Page("title", "", columns={"it": number_column(values)}))).column("it")
    np.testing.assert_array_equal(np.asarray(found), values)


def test_what_is_no_column_is_refused() -> None:
    with pytest.raises(KeyError):
        number_column(np.zeros(3, np.int64))


def test_rows_are_read_as_another_reader_reads_them(tmp_path: Path) -> None:
    kinds = ("ordinary", "special", "reserved", "byte", "partial_utf8")
    rows = [
        Row(
            f"{HOSTILE[i % len(HOSTILE)]}{i}".replace("\ud800", ""),
            kinds[i % 5],
            i % 7 == 0,
            [True, False, None][i % 3],
        )
        for i in range(20_000)
    ]
    rows += [BEYOND] * 100
    numbers = numbers_of(len(rows), [[3, 19_000, 20_050], [5, 6]])
    write_table(write_columns(tmp_path / "columns", rows, 3_000), numbers, tmp_path / "table", {})
    table = pyarrow.parquet.read_table(tmp_path / "table")
    found = read_rows((tmp_path / "table").read_bytes())
    assert found.tokens is not None
    np.testing.assert_array_equal(found.norm, table["norm"])
    np.testing.assert_array_equal(found.hole, table["hole"])
    for codes, name in ((found.tokens.classes, "class"), (found.tokens.scripts, "script")):
        names = [*codes.names, None]
        assert [names[code] for code in codes.codes.tolist()] == table[name].to_pylist()
    for values, name in ((found.tokens.round_trips, "round_trips"), (found.tokens.reachable, "reachable")):
        assert [[False, True, None][value] for value in values.tolist()] == table[name].to_pylist()
    assert found.tokens.texts == [text or "" for text in table["text"].to_pylist()]


def test_a_token_that_is_no_text_is_shown_by_its_bytes(tmp_path: Path) -> None:
    schema_rows = [Row("\\xe2\\x80", "partial_utf8")]
    path = write_columns(tmp_path / "columns", schema_rows)
    write_table(path, numbers_of(1, []), tmp_path / "table", {})
    table = pyarrow.parquet.read_table(tmp_path / "table")
    changed = table.set_column(table.schema.get_field_index("text"), "text", [["a\ufffd"]]).set_column(
        table.schema.get_field_index("bytes"), "bytes", [pyarrow.array([b"a\xe2\x80"], pyarrow.binary())]
    )
    pyarrow.parquet.write_table(changed, tmp_path / "changed")
    found = read_rows((tmp_path / "changed").read_bytes())
    assert found.tokens is not None
    assert found.tokens.texts == ["a\\xe2\\x80"]


def test_distances_are_torchs_and_exact_for_points_that_nearly_agree() -> None:
    points = np.random.default_rng(0).standard_normal((30, 64))
    points[1] = points[0]
    points[2] = points[0] + 1e-9
    points[3, 5] = np.inf
    found = distances(points)
    expected = torch.cdist(
        torch.from_numpy(points), torch.from_numpy(points), compute_mode="donot_use_mm_for_euclid_dist"
    )
    finite = [row for row in range(30) if row != 3]
    np.testing.assert_allclose(found[np.ix_(finite, finite)], expected.numpy()[np.ix_(finite, finite)], rtol=1e-6)
    assert found[0, 1] == 0
    assert found[0, 2] == pytest.approx(8e-9)
    assert np.isnan(found[3]).all()
