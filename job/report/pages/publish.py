"""Makes the page of a survey of what the survey published, and writes it beside the manifest."""

import hashlib
import logging
import posixpath
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from job.errors import SurveyError
from job.limits.memory import give_back_memory, megabytes, memory_left
from job.manifest.filing import html_key, is_examined
from job.manifest.schema import ArtifactEntry, Manifest
from job.report.pages.document import GENERATOR
from job.store.store import ListedObject, Store

if TYPE_CHECKING:
    from job.report.pages.model_page import Rows
    from job.report.pages.survey_tensors import TensorFile
    from job.report.pages.token_rows import RowTable

logger = logging.getLogger(__name__)

_HEAD_NBYTES: Final = 512
"""The generator is named within the first bytes of a page."""
_ROW_NBYTES: Final = 400
"""What a row takes while a page is made, at most: ``python -m benchmarks.pages`` measures it."""
_BASE_NBYTES: Final = 48 << 20


def keep_page(store: Store, folder: str, manifest: Manifest, listing: Mapping[str, ListedObject]) -> bool:
    """Make the page of a published survey again if it is missing, or is another version's. Returns whether it is there.

    ``listing``: of the model's objects. If this version examined the survey, nothing is read.
    """
    key = html_key(folder)
    if key in listing:
        if is_examined(manifest):
            return True
        try:
            if GENERATOR.encode() in store.read_begin(key, _HEAD_NBYTES):
                return True
        except SurveyError as error:
            logger.warning("%s: cannot be read: %s", store.url(key), error)
            return True
    return make_page(store, folder, manifest) or key in listing


def make_page(store: Store, folder: str, manifest: Manifest) -> bool:
    """Make and write the page of a survey. Returns whether that succeeded: without its page a survey is no worse, so a
    failure is logged, and nothing else."""
    from job.report.pages.model_page import model_page  # imports numpy and jinja2

    key = html_key(folder)
    try:
        _check_memory(manifest)
        store.write(key, model_page(manifest, _read_rows(store, manifest)))
    except (SurveyError, ValueError, LookupError, TypeError, MemoryError, OSError) as error:
        logger.warning("%s: cannot be made: %s", store.url(key), error or type(error).__name__)
        return False
    return True


def _check_memory(manifest: Manifest) -> None:
    sizes = [manifest["artifacts"][name]["size"] for name in ("tokens", "projection") if name in manifest["artifacts"]]
    needed = _BASE_NBYTES + _ROW_NBYTES * manifest["tensor"]["shape"][0] + 2 * sum(sizes)
    if memory_left() < needed:
        give_back_memory()  # takes a tenth of a second, and ends the tokenizers' process
        if (left := memory_left()) < needed:
            raise MemoryError(f"{megabytes(left)} of memory are left, expected {megabytes(needed)}")


def _read_rows(store: Store, manifest: Manifest) -> "Rows":
    """What the survey published of the rows of W.

    Raises:
        SurveyError, ValueError: a file is damaged or cannot be read.
        LookupError, TypeError: a file has not what its name promises.
    """
    from job.report.pages.model_page import Rows
    from job.report.pages.survey_tensors import TensorFile, hole_distances, hole_ids, row_coordinates

    artifacts = manifest["artifacts"]

    def tensors(entry: ArtifactEntry) -> "TensorFile":
        return TensorFile(store.url(entry["key"]), entry["size"], partial(store.read_begin, entry["key"]))

    table = _read_table(store, artifacts["tokens"]) if "tokens" in artifacts else None
    hole, distances, coordinates = table.hole if table else None, None, None
    if "black_holes" in artifacts:
        black_holes = tensors(artifacts["black_holes"])
        if hole is None:
            hole = hole_ids(black_holes)
        if manifest["statistics"]["black_holes"] > 1:
            distances = hole_distances(black_holes)
    if "projection" in artifacts:
        coordinates = row_coordinates(tensors(artifacts["projection"]))
    return Rows(table, hole, coordinates, distances)


def _read_table(store: Store, entry: ArtifactEntry) -> "RowTable":
    from job.report.pages.token_rows import read_rows

    content = store.read(entry["key"]) or b""
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"{posixpath.basename(entry['key'])}: found other bytes than were published")
    return read_rows(content)
