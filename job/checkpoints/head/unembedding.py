"""Which tensor of a checkpoint is the unembedding matrix W, and why. Reads config.json and headers, and of the weights
only the rows that ``tie`` compares.

The evidence, in this order: the tensor that was asked for, the table of names, the model class. The stored tensors are
believed more than config.json.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.gguf_header import Vocabulary
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.architecture import (
    INSIDE_A_LAYER,
    ModelClassUnusable,
    ask_model_class,
    is_generative,
    is_tied_by_default,
)
from job.checkpoints.head.config import read_config, stated_tie
from job.checkpoints.head.gguf import find_gguf_head
from job.checkpoints.head.names import embeddings_among, heads_among, tie_candidates
from job.checkpoints.head.needed_files import refuse_unreadable
from job.checkpoints.head.quantisation import describe_quantised, refuse_quantised_head
from job.checkpoints.head.shape import is_smaller_than_stated, rows_first
from job.checkpoints.head.tie import Copy, NamedTensor, Tie, TieState, compare
from job.checkpoints.head.warnings import warn_of_weights
from job.checkpoints.head.weights import Weights, open_weights
from job.errors import CorruptCheckpoint, NoUnembedding, UnsupportedCheckpoint, join_limited

TENSOR_ADVICE = "give the tensor's name with the model"


@dataclass(frozen=True)
class Unembedding:
    """The tensor that is W."""

    name: str
    location: TensorLocation
    reason: str
    """One sentence for people: why it is this tensor."""
    tie: Tie
    """Whether it is also the input embedding, or is stored a second time as such, or is a separate matrix."""
    tie_evidence: str
    """One sentence for people: how that is known."""
    copy: Copy | None = None
    """The stored embedding, if it agrees with W in all sampled rows. The other rows remain to be compared."""
    warnings: tuple[str, ...] = ()
    """What else a reader of the results should know. None of it changes W."""
    vocabulary: Vocabulary | None = field(default=None, repr=False)
    """The tokens that a GGUF file names; None for other files."""

    @property
    def tied(self) -> bool:
        """Whether it is stored once for the head and the embedding."""
        return self.tie == "tied"


def find_unembedding(checkpoint: Checkpoint, tensor: str | None, file: str | None = None) -> Unembedding:
    """Decide which tensor is W: ``tensor`` if it is given, else what the stored names or the model class say.

    ``file``: the only weight file to look in, if it is given.

    Raises:
        NoUnembedding: there is none, or several tensors could be W.
        UnsupportedCheckpoint: W is quantised, or the weights are in a format that cannot be read.
        CorruptCheckpoint: config.json, the index or a header is invalid.
    """
    if file is not None:
        refuse_unreadable(checkpoint, file)
    if file is not None and file not in checkpoint.files:
        similar = get_close_matches(file, checkpoint.files, n=3, cutoff=0.3)
        raise NoUnembedding(
            f"{checkpoint.source}: found no file {file!r:.200}, which was asked for; give one of its files"
            f"{', such as ' + join_limited(similar) if similar else ''}"
        )
    if head := find_gguf_head(checkpoint, tensor, file):
        tie: Tie = "tied" if head.tied else "untied"
        return Unembedding(
            name=head.name,
            location=head.location,
            reason=head.reason,
            tie=tie,
            tie_evidence=f"a GGUF file stores {'one matrix for both' if head.tied else 'the head by itself'}",
            warnings=head.warnings,
            vocabulary=head.vocabulary,
        )
    weights = open_weights(checkpoint, file)
    config = read_config(checkpoint, weights.chosen.folder)
    if tensor is not None:
        return _find_requested(weights, config, tensor)
    return _find_by_name(weights, config)


def _find_requested(weights: Weights, config: Mapping[str, object], name: str) -> Unembedding:
    location = weights.find(name)
    if location is None:
        few = [other for other in weights.names if not INSIDE_A_LAYER.search(other)]
        similar = get_close_matches(name, few, n=3) or heads_among(few)
        give = f"give one of its tensors, such as {join_limited(similar)}" if similar else "give one of its tensors"
        raise NoUnembedding(f"{weights.checkpoint.source}: found no tensor {name!r:.200}, which was asked for; {give}")
    tensor = NamedTensor(name, location)
    return _make_unembedding(weights, config, tensor, f"{name} was asked for", _tie_state(weights, config, tensor))


def _find_by_name(weights: Weights, config: Mapping[str, object]) -> Unembedding:
    """The only stored head, or the only stored embedding if config.json ties it; else the model class decides."""
    heads = _stored(weights, heads_among(weights.names))
    if len(heads) == 1:
        (head,) = heads
        reason = f"{head.name} is stored, and by its name it is the output head"
        return _make_unembedding(weights, config, head, reason, _tie_state(weights, config, head))
    if heads:
        return _find_by_model_class(weights, config, heads)
    refuse_quantised_head(weights, config)
    embeddings = _stored(weights, embeddings_among(weights.names))
    if len(embeddings) == 1 and is_generative(config) and stated_tie(config):
        (embedding,) = embeddings
        reason = f"no output head is stored and {CONFIG} ties it to the embedding, which is {embedding.name}"
        return _make_unembedding(weights, config, embedding, reason, TieState("tied", reason))
    return _find_by_model_class(weights, config, embeddings)


def _find_by_model_class(
    weights: Weights, config: Mapping[str, object], candidates: Sequence[NamedTensor]
) -> Unembedding:
    """The tensor that the model class loads as output embedding. ``candidates``: tensors that could be W by name."""
    source = weights.checkpoint.source
    try:
        answer = ask_model_class(config, weights.names)
    except ModelClassUnusable as why:
        return _find_by_config_class(weights, config, candidates, why)
    if answer.parameter is None:
        raise NoUnembedding(
            f"{source}: {answer.class_name} has no output embedding; survey a language model, or {TENSOR_ADVICE}"
        )
    heads, embeddings = _stored(weights, answer.stored_head), _stored(weights, answer.stored_embeddings)
    if len(heads) > 1:
        names = join_limited([head.name for head in heads])
        raise NoUnembedding(
            f"{source}: found {names} for {answer.parameter} of {answer.class_name}, expected one; {TENSOR_ADVICE}"
        )
    if heads:
        (head,) = heads
        reason = f"{answer.class_name} takes its logits from {answer.parameter}, stored as {head.name}"
        if embeddings:
            tie = _tie_state(weights, config, head, [embedding.name for embedding in embeddings])
        elif answer.is_tied:
            tie = TieState("tied", f"{answer.class_name} ties it to its embedding, which is not stored")
        else:
            tie = _tie_state(weights, config, head)
        return _make_unembedding(weights, config, head, reason, tie)
    if embeddings:
        reason = f"{answer.class_name} ties {answer.parameter} to its embedding, stored as {embeddings[0].name}"
        return _make_unembedding(weights, config, embeddings[0], reason, TieState("tied", reason))
    untied = "" if answer.is_tied else " and not tied to the embedding"
    raise NoUnembedding(
        f"{source}: {answer.class_name} takes its logits from {answer.parameter}, which is not stored{untied};"
        f" an embedding or reward model has no unembedding, otherwise {TENSOR_ADVICE}"
    )


def _find_by_config_class(
    weights: Weights, config: Mapping[str, object], candidates: Sequence[NamedTensor], why: ModelClassUnusable
) -> Unembedding:
    """The only candidate, if it is an embedding and the config class says that it is tied."""
    if len(candidates) == 1 and is_generative(config) and _config_ties(config):
        (embedding,) = candidates
        reason = f"no output head is stored and the config class ties it to the embedding, which is {embedding.name}"
        found = _make_unembedding(weights, config, embedding, reason, TieState("tied", reason))
        return replace(found, warnings=(*found.warnings, f"the model class could not be asked: {why}"))
    names = join_limited([candidate.name for candidate in candidates])
    seen = f"{names} could be W" if names else "no output head is stored under a known name"
    raise NoUnembedding(
        f"{weights.checkpoint.source}: {seen}, and the model class cannot tell: {why}; {TENSOR_ADVICE}"
    ) from why


def _stored(weights: Weights, names: Iterable[str]) -> list[NamedTensor]:
    """Those of these tensors that are really stored."""
    return [NamedTensor(name, location) for name in names if (location := weights.find(name)) is not None]


def _tie_state(
    weights: Weights, config: Mapping[str, object], tensor: NamedTensor, counterparts: Iterable[str] | None = None
) -> TieState:
    """How the tensor relates to its counterpart: a head to its embedding, or an embedding to its head.

    ``counterparts``: the names of the tensors that it may be tied to; None: those from the table of names.
    """
    name = tensor.name
    for other in tie_candidates(name, weights.names) if counterparts is None else counterparts:
        try:
            location = weights.find(other)
        except CorruptCheckpoint as why:  # the file with W can be read, and that is enough
            return TieState("untied", f"{name} is stored; {other} could not be compared with it ({why})")
        if location is not None and _is_matrix(tensor.location) and len(location.shape) == 2:
            return compare(weights.checkpoint, tensor, NamedTensor(other, location), lambda: _config_ties(config))
    if name in embeddings_among(weights.names):
        return TieState("tied", f"{name} is by its name an embedding, and no output head is stored")
    return TieState("untied", f"{name} is stored, and no embedding under a known name that it could be tied to")


def _config_ties(config: Mapping[str, object]) -> bool | None:
    """Whether config.json ties head and embedding, or else its class by default; None if neither says it."""
    stated = stated_tie(config)
    if stated is not None:
        return stated
    try:
        return is_tied_by_default(config)
    except ModelClassUnusable:
        return None


def _make_unembedding(
    weights: Weights, config: Mapping[str, object], tensor: NamedTensor, reason: str, tie: TieState
) -> Unembedding:
    """The tensor as W, after a check that it is a matrix of floats."""
    name, location = tensor.name, tensor.location
    where = f"{weights.checkpoint.source}: {name} in {location.file}"
    if location.dtype not in FLOAT_DTYPES:
        raise UnsupportedCheckpoint(
            f"{where}: found it stored as {describe_quantised(weights, config, name, location.dtype)}"
        )
    if not _is_matrix(location):
        raise NoUnembedding(f"{where}: found shape {list(location.shape)}, expected a matrix; {TENSOR_ADVICE}")
    location = rows_first(location, config, where)
    if is_smaller_than_stated(location, config):
        weights.find_in_all(name)  # refuses a slice, as tensor-parallel training saves one in each shard
    warnings = tuple(warn_of_weights(weights, config, name, location, tie))
    return Unembedding(name, location, reason, tie.tie, tie.evidence, tie.copy, warnings)


def _is_matrix(location: TensorLocation) -> bool:
    return len(location.shape) == 2 and 0 not in location.shape
