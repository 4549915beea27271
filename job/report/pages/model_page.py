"""The page of one model, ``report.html``: its manifest as HTML, and its rows as columns for the tables and pictures."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from job.manifest.schema import Manifest
from job.report.pages.columns import Column, number_column, text_column
from job.report.pages.document import Page, page_bytes, template
from job.report.wording import CLASS_TEXTS, CLASS_TITLES, LIST_TEXTS, TIE_TEXTS
from job.store.json_file import json_value

if TYPE_CHECKING:
    from job.report.pages.token_rows import NamedCodes, RowTable

_STYLES: Final = ("page.css", "pictures.css")
_SCRIPTS: Final = (
    *("columns.js", "table.js", "members.js", "scales.js", "figures.js"),
    *("norms_chart.js", "populations_chart.js", "makeup_chart.js", "distances_chart.js", "charts.js"),
    *("sky.js", "cloud_marks.js", "cloud_view.js", "cloud_input.js", "cloud.js", "model.js"),
)
_MAX_FIRST_HOLES: Final = 8
"""The number of holes that show before the script runs."""
_MAX_FIRST_TOKENS: Final = 6
_MAX_CHANGED: Final = 12
_NO_COORDINATE: Final = 2**16 - 1


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of W. What the survey did not publish is None."""

    table: "RowTable | None" = None
    hole: NDArray[np.int32] | None = None
    """(n_rows,) int32: the number of the row's hole; 0 in none."""
    coordinates: NDArray[np.float32] | None = None
    """(n_rows, 3) float32: γ′ along the first principal directions."""
    hole_distances: NDArray[np.float32] | None = None
    """(h, h) float32: between the centroids of the first holes."""


def model_page(manifest: Manifest, rows: Rows) -> bytes:
    """The page. The same manifest and rows give the same bytes.

    Raises:
        ValueError: the rows are not as many as W's.
    """
    n_rows = manifest["tensor"]["shape"][0]
    tokens = rows.table.tokens if rows.table else None
    texts = tokens.texts if tokens else _texts_of_manifest(manifest)
    for column in (rows.hole, rows.coordinates, rows.table.norm if rows.table else None):
        if column is not None and len(column) != n_rows:
            raise ValueError(f"found {len(column):,} rows in a published table, expected {n_rows:,}, as W has")
    statistics = manifest["statistics"]
    body = template("model.html.j2").render(
        m=json_value(manifest),
        headline=headline(manifest),
        rows_are="tokens" if "kind" in manifest["tokenizer"] else "rows",
        first_holes=list(_first_holes(manifest, rows, texts)),
        changed=_changed(manifest, texts),
        deduplication=n_rows / statistics["unique_rows"] if statistics["unique_rows"] else None,
        files=_files(manifest),
        index_link=_link(manifest, "index.html"),
        changes_link=_link(manifest, manifest.get("pages", {}).get("changes")),
        report_link=_link(manifest, manifest.get("pages", {}).get("report")),
        code=_code(manifest),
        has_tokens=tokens is not None,
        has_table=rows.table is not None,
        has_holes_of_rows=rows.hole is not None,
        has_projection=rows.coordinates is not None,
        tie_texts=TIE_TEXTS,
        class_texts=CLASS_TEXTS,
        list_texts=LIST_TEXTS,
    )
    page = Page(
        title=f"{manifest['model']}: {headline(manifest)}",
        body=body,
        scripts=_SCRIPTS,
        styles=_STYLES,
        columns=dict(_columns(manifest, rows, texts)),
        facts=_facts(manifest, rows),
    )
    return page_bytes(page)


def headline(manifest: Manifest) -> str:
    """What a survey found, in a sentence."""
    statistics, n_rows = manifest["statistics"], manifest["tensor"]["shape"][0]
    noun = "tokens" if "kind" in manifest["tokenizer"] else "rows"
    n_holes, n_in_holes = statistics["black_holes"], statistics["black_hole_tokens"]
    if not n_holes:
        return f"No black holes among {n_rows:,} {noun}."
    return f"{n_holes:,} black hole{'s swallow' if n_holes > 1 else ' swallows'} {n_in_holes:,} of {n_rows:,} {noun}."


def _texts_of_manifest(manifest: Manifest) -> list[str] | None:
    """The tokens that the manifest names, each at its row; None if it names none."""
    texts = [""] * manifest["tensor"]["shape"][0]
    for hole in manifest["black_holes"]:
        for token in hole["tokens"]:
            if token["text"] is not None and 0 <= token["id"] < len(texts):
                texts[token["id"]] = token["text"]
    return texts if any(texts) else None


def _columns(manifest: Manifest, rows: Rows, texts: list[str] | None) -> Iterator[tuple[str, Column]]:
    if rows.hole is not None:
        yield "hole", number_column(rows.hole)
    yield from _hole_columns(manifest, rows)
    if texts is not None:
        yield "text", text_column(texts)
    if rows.table:
        yield "norm", number_column(rows.table.norm)
        yield "gamma-norm", number_column(rows.table.gamma_norm)
        if tokens := rows.table.tokens:
            yield "class", number_column(tokens.classes.codes)
            yield "script", number_column(tokens.scripts.codes)
            yield "round-trips", number_column(tokens.round_trips)
            yield "reachable", number_column(tokens.reachable)
    if rows.coordinates is not None:
        for axis in range(3):
            yield f"coordinate-{axis}", number_column(_quantised(rows.coordinates[:, axis]))
    if rows.hole_distances is not None:
        yield "hole-distances", number_column(rows.hole_distances.ravel())


def _hole_columns(manifest: Manifest, rows: Rows) -> Iterator[tuple[str, Column]]:
    """The population and the norm of each hole. What the rows do not tell, the manifest does of its first holes."""
    n_holes = manifest["statistics"]["black_holes"]
    population, norm = np.zeros(n_holes, np.int32), np.full(n_holes, np.nan, np.float32)
    for hole in manifest["black_holes"]:
        population[hole["id"] - 1] = hole["population"]
        norm[hole["id"] - 1] = np.nan if hole["row_norm"] is None else hole["row_norm"]
    if rows.hole is not None:
        population = np.bincount(rows.hole, minlength=n_holes + 1)[1:].astype(np.int32)
        if rows.table:
            _, first = np.unique(rows.hole, return_index=True)
            first = first[rows.hole[first] > 0]
            norm[rows.hole[first] - 1] = rows.table.norm[first]
    yield "hole-population", number_column(population)
    yield "hole-norm", number_column(norm)


def _scale(values: NDArray[np.float32]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)


def _quantised(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(n,) uint16: the values on the scale from the lowest to the highest, which is enough for a picture."""
    low, high = _scale(values)
    steps = (values.astype(np.float64) - low) * ((_NO_COORDINATE - 1) / (high - low or 1.0))
    return np.where(np.isfinite(steps), np.rint(steps), _NO_COORDINATE).astype(np.uint16)


def _facts(manifest: Manifest, rows: Rows) -> dict[str, object]:
    def names(codes: "NamedCodes | None") -> list[str]:
        return [CLASS_TITLES.get(name, name) for name in codes.names] if codes else []

    tokens = rows.table.tokens if rows.table else None
    projection = manifest["statistics"].get("projection")
    return {
        "model": manifest["model"],
        "n": manifest["tensor"]["shape"][0],
        "hiddenSize": manifest["tensor"]["shape"][1],
        "dtype": manifest["tensor"]["dtype"],
        "classNames": names(tokens.classes if tokens else None),
        "scriptNames": names(tokens.scripts if tokens else None),
        "scales": None if rows.coordinates is None else [_scale(rows.coordinates[:, axis]) for axis in range(3)],
        "explained": projection["share_of_variance"] if projection else None,
        "key": _page_key(manifest),
    }


def _first_holes(manifest: Manifest, rows: Rows, texts: list[str] | None) -> Iterator[dict[str, object]]:
    """The first holes as the page shows them before its script runs."""
    tokens = rows.table.tokens if rows.table else None
    for hole in manifest["black_holes"][:_MAX_FIRST_HOLES]:
        ids = (
            [token["id"] for token in hole["tokens"]] if rows.hole is None else np.flatnonzero(rows.hole == hole["id"])
        )
        kinds = ""
        if tokens and rows.hole is not None:
            counts = np.bincount(tokens.classes.codes[ids], minlength=len(tokens.classes.names) + 1)
            kinds = ", ".join(
                f"{count:,} {CLASS_TITLES.get(name, name)}"
                for count, name in sorted(zip(counts.tolist(), tokens.classes.names, strict=False), reverse=True)
                if count
            )
        yield {
            **hole,
            "kinds": kinds,
            "tokens": [(texts[i] if texts else "") or f"#{i}" for i in _extremes([int(i) for i in ids])],
        }


def _extremes(ids: list[int]) -> list[int]:
    """The first and the last of them."""
    half = _MAX_FIRST_TOKENS // 2
    return ids if len(ids) <= _MAX_FIRST_TOKENS else [*ids[:half], *ids[-half:]]


def _changed(manifest: Manifest, texts: list[str] | None) -> dict[str, list[str]]:
    """The first tokens that joined a hole or left one since the previous survey."""
    previous = manifest.get("previous")
    if not previous:
        return {}

    def shown(ids: list[int]) -> list[str]:
        return [(texts[i] if texts and i < len(texts) else "") or f"#{i}" for i in ids[:_MAX_CHANGED]]

    return {"joined": shown(previous["joined"]), "left": shown(previous["left"])}


def _page_key(manifest: Manifest) -> str:
    pages = manifest.get("pages", {})
    return posixpath.join(posixpath.dirname(pages.get("html") or pages.get("report", "")), "report.html")


def _link(manifest: Manifest, key: str | None) -> str | None:
    """The address of a key, from the page's own."""
    return quote(posixpath.relpath(key, posixpath.dirname(_page_key(manifest)))) if key else None


def _files(manifest: Manifest) -> list[dict[str, object]]:
    return [
        {"name": posixpath.basename(entry["key"]), "link": _link(manifest, entry["key"]), **entry}
        for entry in manifest["artifacts"].values()
    ]


def _code(manifest: Manifest) -> dict[str, str]:
    """Python that loads what is published. All texts in it are literals of ASCII characters."""
    keys = {name: entry["key"] for name, entry in manifest["artifacts"].items() if name.isidentifier()}
    survey = f"{manifest['model']}@{posixpath.dirname(_page_key(manifest)).removeprefix(manifest['model'] + '/')}"
    code = {
        "reader": (
            "from black_hole_survey import open_surveys\n\n"
            f"survey = open_surveys(OUTPUT)[{survey!a}]\n"
            "survey.W, survey.mu, survey.gamma_centered\n"
            "survey.black_hole_mask, survey.black_hole_id, survey.black_hole_centroids\n"
            "survey.tokens  # what each row of W stands for\n"
        )
    }
    tensors = {name: key for name, key in keys.items() if key.endswith(".safetensors")}
    if tensors:
        lines = "\n".join(f"{name} = load_file(OUTPUT + {'/' + key!a})" for name, key in tensors.items())
        code["safetensors"] = f"from safetensors.torch import load_file\n\n{lines}\n"
    if "tokens" in keys:
        code["pandas"] = (
            f"import pandas as pd\n\ntokens = pd.read_parquet(OUTPUT + {'/' + keys['tokens']!a})\n"
            'tokens[tokens["hole"] > 0].sort_values(["hole", "id"])\n'
        )
    return code
