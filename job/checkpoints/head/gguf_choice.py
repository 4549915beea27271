"""Which of several GGUF models of a checkpoint is the one to read. Headers decide; names only where they agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.formats.gguf_file import GgufFile
from job.checkpoints.head.gguf_files import read_model, unquantised_model, unquantised_models
from job.checkpoints.head.gguf_kinds import EMBEDDING, HEAD, n_layers, n_weights, size_of, why_not_the_model
from job.checkpoints.transport.parallel import map_as_completed
from job.errors import CorruptCheckpoint, NoUnembedding, UnsupportedCheckpoint, join_limited

MAX_FILES = 50
"""How many headers are read. Most repositories have up to 30 files; one header takes a megabyte or a few."""

AT_ONCE = 4

FLOATS = ("F64", "F32", "BF16", "F16")
"""The types of a head that is not quantised, the most exact first. Most models are released in BF16, which F16 cannot
hold exactly."""


@dataclass(frozen=True)
class GgufChoice:
    """The model to read, and what is not read."""

    parts: list[str]
    warnings: tuple[str, ...]


def choose_gguf(checkpoint: Checkpoint, models: Mapping[str, list[str]], tensor: str | None) -> GgufChoice:
    """The only whole language model; of several, the one with the most exact float type of head, or of ``tensor``.

    Raises:
        NoUnembedding: several could be meant, or none is a whole language model.
    """
    if len(models) == 1:
        return GgufChoice(next(iter(models.values())), ())
    looked_at = models
    if sum(map(len, models.values())) > MAX_FILES:
        looked_at = unquantised_models(models)
        if not 0 < sum(map(len, looked_at.values())) <= MAX_FILES:
            raise _ambiguous(checkpoint, models, {})
    headers, unreadable = _read_all(checkpoint, looked_at)
    not_models = {name: why for name, header in headers.items() if (why := why_not_the_model(header))}
    whole = {name: header for name, header in headers.items() if name not in not_models}
    not_models |= _smaller_than_the_rest(whole)
    whole = {name: header for name, header in whole.items() if name not in not_models}
    notes = {looked_at[name][0]: why for name, why in sorted(not_models.items())}
    if not whole and not unreadable:
        raise NoUnembedding(
            f"{checkpoint.source}: found no whole language model among {len(models):,} GGUF models:"
            f" {join_limited([f'{file} is {why}' for file, why in notes.items()])}; survey the model that they belong"
            f" to, or choose one in the list of models, by `file: {next(iter(notes))}` beside `model`"
        )
    candidates = {name: parts for name, parts in looked_at.items() if name in whole or name in unreadable}
    chosen = _most_exact(whole, looked_at, tensor)
    if chosen is None and len(whole) == 1 and not unreadable and len(looked_at) == len(models):
        (chosen,) = whole
    if chosen is None:
        raise _ambiguous(checkpoint, candidates if looked_at is models else models, notes)
    warnings = [f"{file} is not the model but {why}; it is not read" for file, why in notes.items()]
    warnings += [f"{looked_at[name][0]} is not read: {why}" for name, why in sorted(unreadable.items())]
    return GgufChoice(looked_at[chosen], tuple(warnings))


def _read_all(checkpoint: Checkpoint, models: Mapping[str, list[str]]) -> tuple[dict[str, GgufFile], dict[str, str]]:
    """The headers by the models' names, without vocabularies; and why others cannot be read."""
    headers, unreadable = {}, {}
    for name, header in map_as_completed(partial(_read, checkpoint, models), models, AT_ONCE):
        if isinstance(header, GgufFile):
            headers[name] = header
        else:
            unreadable[name] = str(header)
    return headers, unreadable


def _read(
    checkpoint: Checkpoint, models: Mapping[str, list[str]], name: str
) -> GgufFile | CorruptCheckpoint | UnsupportedCheckpoint:
    try:
        return replace(read_model(checkpoint, models[name]), vocabulary=None)  # dozens of vocabularies take a gigabyte
    except (CorruptCheckpoint, UnsupportedCheckpoint) as why:
        return why.without_frames()


def _smaller_than_the_rest(models: Mapping[str, GgufFile]) -> dict[str, str]:
    """What drafters are that are whole models of their own: smaller, and of another size than most. Empty where it
    cannot be told which is the drafter.
    """
    sizes = {name: size_of(header) for name, header in models.items()}
    if any(size.n_layers for size in sizes.values()):
        bare = {name: "without layers" for name, header in models.items() if not n_layers(header)}
        if bare:
            return bare | _smaller_than_the_rest({name: models[name] for name in models if name not in bare})
    counts = Counter(sizes.values()).most_common()
    if len(counts) < 2 or counts[0][1] == counts[1][1]:
        return {}
    most = counts[0][0]
    smallest = min(n_weights(models[name]) for name, size in sizes.items() if size == most)
    others = {name: size for name, size in sizes.items() if size != most}
    if any(n_weights(models[name]) >= smallest for name in others):
        return {}
    return {name: f"a smaller model: {size}, where the others have {most}" for name, size in others.items()}


def _most_exact(whole: Mapping[str, GgufFile], models: Mapping[str, list[str]], tensor: str | None) -> str | None:
    """The name of the model whose head has the most exact float type. If several have, their names decide. None if
    there is none, or several of several sizes."""
    if len(set(map(size_of, whole.values()))) > 1:
        return None
    types = {name: _head_dtype(header, tensor) for name, header in whole.items()}
    for dtype in FLOATS:
        found = {name: models[name] for name in whole if types[name] == dtype}
        if len(found) == 1:
            return next(iter(found))
        if found:
            best = unquantised_model(found)
            return next((name for name, parts in found.items() if parts == best), None)
    return None


def _head_dtype(header: GgufFile, tensor: str | None) -> str | None:
    location = header.tensors.get(tensor or (HEAD if HEAD in header.tensors else EMBEDDING))
    return location.dtype if location else None


def _ambiguous(checkpoint: Checkpoint, models: Mapping[str, Sequence[str]], notes: Mapping[str, str]) -> NoUnembedding:
    beside = f" beside {join_limited([f'{file} ({why})' for file, why in notes.items()])}" if notes else ""
    return NoUnembedding(
        f"{checkpoint.source}: found {len(models):,} GGUF models"
        f" ({', '.join(parts[0] for parts in models.values())}){beside}, expected a single one, or a single one whose"
        f" head is F32, BF16 or F16; choose one in the list of models, by `file: {next(iter(models.values()))[0]}`"
        " beside `model`"
    )
