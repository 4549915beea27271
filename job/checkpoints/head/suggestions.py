"""What a refusal names as the tensors that could be given instead. Reads headers, so it is asked only for a refusal."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.head.architecture import INSIDE_A_LAYER
from job.checkpoints.head.config import VOCAB_SIZE_NAMES, stated_number
from job.checkpoints.head.weights import Weights
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint, join_limited

TENSOR_ADVICE = "give the tensor's name with the model"

MAX_INSIDE_LAYERS = 2_000
"""How many tensors of numbered layers are looked at, where there is no matrix outside them."""


def suggest_tensors(weights: Weights, config: Mapping[str, object]) -> str:
    """The end of a refusal: the advice, and the matrices of about as many rows as there are tokens, a few of them."""
    stated = stated_number(config, VOCAB_SIZE_NAMES)
    found = matrices_of_about(stated and stated[1], dict(_located(weights)))
    return advice_on(found)


def advice_on(matrices: Mapping[str, TensorLocation]) -> str:
    """The advice to give one of these tensors by its name."""
    if not matrices:
        return TENSOR_ADVICE
    shapes = [f"{name} {list(location.shape)}" for name, location in matrices.items()]
    return f"{TENSOR_ADVICE}, by `tensor:`; of about as many rows as there are tokens are {join_limited(shapes)}"


def matrices_of_about(n_rows: int | None, tensors: Mapping[str, TensorLocation]) -> dict[str, TensorLocation]:
    """The matrices of about ``n_rows`` rows, the closest first. None: of the most common number of rows above the
    number of columns."""
    matrices = {name: found for name, found in tensors.items() if len(found.shape) == 2 and 0 not in found.shape}
    if n_rows is None:
        tall = Counter(found.shape[0] for found in matrices.values() if found.shape[0] > found.shape[1])
        if not tall:
            return {}
        n_rows = max(tall, key=lambda rows: (tall[rows], rows))
    wanted = n_rows
    close = [name for name, found in matrices.items() if 8 * abs(found.shape[0] - wanted) <= wanted]
    close.sort(key=lambda name: (abs(matrices[name].shape[0] - wanted), name))
    return {name: matrices[name] for name in close}


def _located(weights: Weights) -> Iterator[tuple[str, TensorLocation]]:
    """The matrices outside numbered layers; if there are none, those of the first tensors inside."""
    outside = sorted(name for name in weights.names if not INSIDE_A_LAYER.search(name))
    found = list(_find_all(weights, outside))
    if not any(len(location.shape) == 2 for _, location in found):
        inside = sorted(name for name in weights.names if INSIDE_A_LAYER.search(name))
        found = list(_find_all(weights, inside[:MAX_INSIDE_LAYERS]))
    yield from found


def _find_all(weights: Weights, names: Iterable[str]) -> Iterator[tuple[str, TensorLocation]]:
    for name in names:
        try:
            location = weights.find(name)
        except (CorruptCheckpoint, UnsupportedCheckpoint):
            continue  # the refusal is about something else
        if location is not None:
            yield name, location
