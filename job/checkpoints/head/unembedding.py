"""Which tensor of a checkpoint is the unembedding matrix W, and why. Reads config.json and headers, never weights.

The order of evidence: the tensor that was asked for; the table of names; the model class. The tensors that are there
are believed over what config.json says of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.gguf_header import Vocabulary
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.architecture import (
    INSIDE_A_LAYER,
    CannotTell,
    ask_model_class,
    is_generative,
    is_tied_by_default,
)
from job.checkpoints.head.config import read_config, stated_tie
from job.checkpoints.head.gguf import find_gguf_head
from job.checkpoints.head.names import embeddings_among, heads_among, is_head, partners_of
from job.checkpoints.head.quantisation import beside_weight, scheme_of, stated_method, weight_of
from job.checkpoints.head.shape import lies_by_columns, transposed
from job.checkpoints.head.tie import Copy, NamedTensor, Tie, TieState, compare
from job.checkpoints.head.warnings import warn_of_weights
from job.checkpoints.head.weights import Weights, open_weights
from job.errors import CorruptCheckpoint, NoUnembedding, UnsupportedCheckpoint, join_limited

GIVE_IT = "give the tensor's name with the model"


@dataclass(frozen=True)
class Unembedding:
    """The tensor that is W."""

    name: str
    location: TensorLocation
    reason: str
    """One sentence for people: what was seen, and why it is this tensor."""
    tie: Tie
    """Whether it is the input embedding too, is stored a second time as such, or is a matrix of its own."""
    tie_evidence: str
    """One sentence for people: what says so."""
    copy: Copy | None = None
    """The stored embedding, where it agreed with W in all rows compared and the others remain to be compared."""
    warnings: tuple[str, ...] = ()
    """What a reader of the results should know besides; none of it changes W."""
    vocabulary: Vocabulary | None = field(default=None, repr=False)
    """The tokens that the weight file itself names, as GGUF files do."""

    @property
    def tied(self) -> bool:
        """Whether it is stored once, for the head and for the embedding."""
        return self.tie == "tied"


def find_unembedding(checkpoint: Checkpoint, tensor: str | None, file: str | None = None) -> Unembedding:
    """Decide which tensor is W: ``tensor`` where it is given, else what the stored names or the model class say.

    ``file``: the weight file to look in, where it is given.

    Raises:
        NoUnembedding: there is none, or the evidence does not single one out.
        UnsupportedCheckpoint: it is quantised, or its weights are in a format that cannot be read.
        CorruptCheckpoint: config.json, the index or a header is not sound.
    """
    if file is not None and file not in checkpoint.files:
        similar = get_close_matches(file, checkpoint.files, n=3, cutoff=0.3)
        raise NoUnembedding(
            f"{checkpoint.source}: has no file {file!r:.200}, which was asked for; give one it has"
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
    config = read_config(checkpoint, weights.folder)
    if tensor is not None:
        return _given(weights, config, tensor)
    heads = [name for name in heads_among(weights.names) if weights.find(name)]
    if len(heads) == 1:
        reason = f"{heads[0]} is stored, and by its name it is the output head"
        return _checked(weights, config, heads[0], reason, _head_and(weights, config, heads[0]))
    if heads:
        return _as_the_class_says(weights, config, heads)
    _refuse_quantised_head(weights, config)
    embeddings = [name for name in embeddings_among(weights.names) if weights.find(name)]
    if len(embeddings) == 1 and is_generative(config) and stated_tie(config):
        reason = f"no output head is stored and {CONFIG} ties it to the embedding, which is {embeddings[0]}"
        return _checked(weights, config, embeddings[0], reason, TieState("tied", reason))
    return _as_the_class_says(weights, config, embeddings)


def _given(weights: Weights, config: Mapping[str, object], tensor: str) -> Unembedding:
    if weights.find(tensor) is None:
        few = [name for name in weights.names if not INSIDE_A_LAYER.search(name)]
        similar = get_close_matches(tensor, few, n=3) or heads_among(few)
        raise NoUnembedding(
            f"{weights.checkpoint.source}: has no tensor {tensor!r:.200}, which was asked for;"
            + (f" give one it has, such as {join_limited(similar)}" if similar else " see its files for their names")
        )
    return _checked(weights, config, tensor, f"{tensor} was asked for", _head_and(weights, config, tensor))


def _as_the_class_says(weights: Weights, config: Mapping[str, object], candidates: list[str]) -> Unembedding:
    source = weights.checkpoint.source
    try:
        answer = ask_model_class(config, weights.names)
    except CannotTell as why:
        return _without_the_class(weights, config, candidates, why)
    if answer.parameter is None:
        raise NoUnembedding(
            f"{source}: {answer.class_name} has no output embedding; survey a language model, or {GIVE_IT}"
        )
    stored_heads = [name for name in answer.stored_head if weights.find(name)]
    stored_embeddings = [name for name in answer.stored_embeddings if weights.find(name)]
    if len(stored_heads) > 1:
        raise NoUnembedding(
            f"{source}: {join_limited(stored_heads)} are all stored for {answer.parameter} of {answer.class_name};"
            f" {GIVE_IT}"
        )
    if stored_heads:
        reason = f"{answer.class_name} takes its logits from {answer.parameter}, stored as {stored_heads[0]}"
        if stored_embeddings:
            tie = _head_and(weights, config, stored_heads[0], stored_embeddings)
        elif answer.is_tied:
            tie = TieState("tied", f"{answer.class_name} ties it to its embedding, which is not stored")
        else:
            tie = _head_and(weights, config, stored_heads[0])
        return _checked(weights, config, stored_heads[0], reason, tie)
    if stored_embeddings:
        reason = f"{answer.class_name} ties {answer.parameter} to its embedding, stored as {stored_embeddings[0]}"
        return _checked(weights, config, stored_embeddings[0], reason, TieState("tied", reason))
    untied = "" if answer.is_tied else " and not tied to the embedding"
    raise NoUnembedding(
        f"{source}: {answer.class_name} takes its logits from {answer.parameter}, which is not stored{untied};"
        f" an embedding or reward model has no unembedding, otherwise {GIVE_IT}"
    )


def _without_the_class(
    weights: Weights, config: Mapping[str, object], candidates: list[str], why: CannotTell
) -> Unembedding:
    """The one candidate, where it is an embedding and the config class alone says that it is tied."""
    if len(candidates) == 1 and is_generative(config) and _config_ties(config):
        reason = f"no output head is stored and the config class ties it to the embedding, which is {candidates[0]}"
        found = _checked(weights, config, candidates[0], reason, TieState("tied", reason))
        return replace(found, warnings=(*found.warnings, f"the model class could not be asked: {why}"))
    seen = f"{join_limited(candidates)} could be it" if candidates else "no output head is stored under a known name"
    raise NoUnembedding(
        f"{weights.checkpoint.source}: {seen}, and the model class cannot tell: {why}; {GIVE_IT}"
    ) from why


def _head_and(
    weights: Weights, config: Mapping[str, object], name: str, partners: Iterable[str] | None = None
) -> TieState:
    """How the tensor relates to its counterpart: a head to its embedding, an embedding to its head."""
    mine = weights.find(name)
    assert mine is not None, name  # noqa: S101 - every caller has seen it
    candidates = partners_of(name, weights.names) if partners is None else partners
    for partner in candidates:
        try:
            theirs = weights.find(partner)
        except CorruptCheckpoint as why:  # what holds W is sound, and that is what counts
            return TieState("untied", f"{name} is stored; {partner} could not be compared with it ({why})")
        if theirs is not None and len(mine.shape) == len(theirs.shape) == 2 and 0 not in mine.shape:
            return compare(
                weights.checkpoint, NamedTensor(name, mine), NamedTensor(partner, theirs), lambda: _config_ties(config)
            )
    if name in embeddings_among(weights.names):
        return TieState("tied", f"{name} is by its name an embedding, and no output head is stored")
    return TieState("untied", f"{name} is stored, and no embedding under a known name that it could be tied to")


def _config_ties(config: Mapping[str, object]) -> bool | None:
    """What config.json says, or where it is silent its class; None where neither can be asked."""
    stated = stated_tie(config)
    if stated is not None:
        return stated
    try:
        return is_tied_by_default(config)
    except CannotTell:
        return None


def _refuse_quantised_head(weights: Weights, config: Mapping[str, object]) -> None:
    heads = sorted({name for other in weights.names if (name := weight_of(other)) and is_head(name)})
    if heads:
        beside = beside_weight(heads[0], weights.names)
        raise UnsupportedCheckpoint(
            f"{weights.checkpoint.source}: the output head is stored quantised, as"
            f" {_quantised(weights, config, None, beside)}"
        )


def _quantised(weights: Weights, config: Mapping[str, object], dtype: str | None, beside: list[str]) -> str:
    """The end of a refusal: what was found, what was expected, what to do."""
    dtypes = [f"{name} ({found.dtype})" for name in beside if (found := weights.find(name))]
    scheme, method = scheme_of(dtype, beside), stated_method(config)
    said = [f"by its names and dtypes {scheme}"] if scheme else []
    said += [f"{CONFIG} names {method}"] if method else []
    how = f" ({', '.join(said)})" if said else ""
    return (
        f"{' beside '.join(filter(None, [dtype, join_limited(dtypes)]))}{how},"
        f" one of {', '.join(sorted(FLOAT_DTYPES))} was expected; survey the model it was quantised from"
    )


def _checked(weights: Weights, config: Mapping[str, object], name: str, reason: str, tie: TieState) -> Unembedding:
    location = weights.find(name)
    assert location is not None, name  # noqa: S101 - every caller has seen it
    where = f"{weights.checkpoint.source}: {name} in {location.file}"
    if location.dtype not in FLOAT_DTYPES:
        beside = beside_weight(name, weights.names)
        raise UnsupportedCheckpoint(f"{where}: is stored as {_quantised(weights, config, location.dtype, beside)}")
    if len(location.shape) != 2 or 0 in location.shape:
        raise NoUnembedding(f"{where}: has the shape {list(location.shape)}, a matrix was expected; {GIVE_IT}")
    if lies_by_columns(location, config):
        location = transposed(location)
    warnings = tuple(warn_of_weights(weights, config, name, location, tie))
    return Unembedding(name, location, reason, tie.tie, tie.evidence, tie.copy, warnings)
