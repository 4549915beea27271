"""Compares two published surveys: reads both, and says how they differ."""

from job.differences.hole_lists import holes_entry
from job.differences.matrices import RowsOfW, compare_centroids, compare_w
from job.differences.published_data import PublishedSurvey, read_table
from job.differences.schema import DIFFERENCE_VERSION, SurveyDifference, SurveyName
from job.differences.statistics import side_by_side
from job.differences.token_lists import Texts, TokenLists
from job.differences.token_tables import classes_entry, norms_entry, valid_ids_entry
from job.differences.tokenizers import compare_tokenizers, ids_entry


def compare_surveys(a: PublishedSurvey, b: PublishedSurvey, rows_of_w: RowsOfW) -> SurveyDifference:
    """How survey B differs from survey A.

    Raises:
        TransientError: what is published is damaged, or the store fails.
        ConfigError: the store refuses to be read.
    """
    untold: list[str] = []
    tables = read_table(a), read_table(b)
    tokenizer, ids = compare_tokenizers(a, b, *tables, untold)
    w = compare_w(a, b, ids, rows_of_w, untold)
    centroid = compare_centroids(a, b, untold)
    difference: SurveyDifference = {
        "schema_version": DIFFERENCE_VERSION,
        "changed": False,
        "a": _name(a),
        "b": _name(b),
        "cannot_be_told": untold,
        "statistics": side_by_side(a.manifest, b.manifest),
        "w": w,
        "tokenizer": tokenizer,
        "ids": None,
        "holes": None,
        "centroid": centroid,
        "norms": None,
        "classes": None,
        "valid_ids": None,
    }
    if ids is not None:
        texts = Texts()
        lists = TokenLists(ids, a.n_rows, b.n_rows, texts)
        difference["ids"] = ids_entry(ids, lists)
        difference["holes"] = holes_entry(a, b, ids, lists, untold)
        difference["norms"] = norms_entry(*tables, ids, lists, untold)
        difference["classes"] = classes_entry(*tables, ids, lists, untold)
        difference["valid_ids"] = valid_ids_entry(a, b, ids, lists, untold)
        texts.fill(*tables)
    difference["changed"] = _is_changed(difference)
    return difference


def _name(survey: PublishedSurvey) -> SurveyName:
    manifest = survey.manifest
    pages = manifest.get("pages", {})
    return {
        "model": manifest["model"],
        "commit": manifest["commit"],
        "revision": manifest.get("revision"),
        "published_at": manifest["published_at"],
        "folder": survey.folder,
        "page": pages.get("html") or pages.get("report"),
        "tensor": manifest["tensor"]["name"],
    }


def _is_changed(difference: SurveyDifference) -> bool:
    """Whether anything differs. All that follows from W alone is the same if W is."""
    w, tokenizer, classes = difference["w"], difference["tokenizer"], difference["classes"]
    valid = difference["valid_ids"]
    return (
        not w["same"]
        or tokenizer["same"] is False
        or (tokenizer["same"] is None and not tokenizer["same_files"])
        or (classes is not None and any(count["a"] != count["b"] for count in classes["counts"]))
        or (classes is not None and bool(classes["moves"]))
        or (valid is not None and bool(valid["became_valid"]["count"] or valid["became_invalid"]["count"]))
    )
