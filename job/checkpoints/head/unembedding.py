"""Which tensor of a checkpoint is the unembedding matrix W, and why. Reads config.json and headers, and of the weights
only the rows that ``tie`` compares.

The evidence, in this order: the tensor that was asked for, the table of names, the model class, what lies under the
same prefix. The stored tensors are believed more than config.json.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.gguf_file import Vocabulary
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.architecture import (
    INSIDE_A_LAYER,
    OutputEmbedding,
    ask_model_class,
    is_generative,
    is_named,
    is_tied_by_default,
)
from job.checkpoints.head.config import (
    HIDDEN_SIZE_NAMES,
    VOCAB_SIZE_NAMES,
    has_a_row_for_each_token,
    read_config,
    stated_number,
    stated_tie,
    states_a_tie,
)
from job.checkpoints.head.gguf import find_gguf_head
from job.checkpoints.head.model_class import ModelClassUnusable
from job.checkpoints.head.names import (
    BOTH,
    HEADS,
    LM_HEAD,
    embeddings_among,
    heads_among,
    places_of_the_model,
    tie_candidates,
    unlisted_embeddings_among,
    unproven_heads_among,
)
from job.checkpoints.head.needed_files import refuse_unreadable
from job.checkpoints.head.quantisation import describe_quantised, refuse_quantised_head
from job.checkpoints.head.row_meaning import DRAFT_SIZE_NAMES, is_draft_map, why_rows_are_not_tokens
from job.checkpoints.head.shape import is_column_major, is_smaller_than_stated, rows_first, transposed
from job.checkpoints.head.suggestions import suggest_tensors
from job.checkpoints.head.tie import Copy, NamedTensor, Tie, TieState, compare
from job.checkpoints.head.warnings import warn_of_weights
from job.checkpoints.head.weights import Weights, open_weights
from job.checkpoints.head.wrappers import (
    parts_beside,
    refuse_unread_heads,
    refuse_wrapped,
    rivals_of_embedding,
    trained_head,
)
from job.errors import CorruptCheckpoint, NoUnembedding, UnsupportedCheckpoint, join_limited


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
    rows_are_not_tokens: str | None = None
    """If row i is not token i: one sentence on what the rows stand for, without its full stop."""

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
            rows_are_not_tokens=head.rows_are_not_tokens,
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
        give = (
            f"give one of its tensors, such as {join_limited(similar)}" if similar else suggest_tensors(weights, config)
        )
        raise NoUnembedding(f"{weights.checkpoint.source}: found no tensor {name!r:.200}, which was asked for; {give}")
    tensor = NamedTensor(name, location)
    return _measurable(weights, config, tensor, f"{name} was asked for", _tie_state(weights, config, tensor))


def _find_by_name(weights: Weights, config: Mapping[str, object]) -> Unembedding:
    """The only stored head, or the only stored embedding if config.json ties it; else the model class decides."""
    heads = _stored(weights, heads_among(weights.names))
    unproven = _stored(weights, unproven_heads_among(weights.names))
    if len(heads) == 1 and not unproven and not _is_doubtful(weights, config, heads[0]):
        return _take_head(weights, config, heads[0])
    if heads or unproven:
        return _find_by_model_class(weights, config, heads, unproven)
    refuse_quantised_head(weights, config)
    if trained := trained_head(weights, config):
        tie = _tie_state(weights, config, trained.head)
        found = _make_unembedding(weights, config, trained.head, trained.reason, tie)
        return replace(found, warnings=(trained.warning, *found.warnings))
    if is_generative(config) and (both := _stored(weights, BOTH)):
        reason = f"{both[0].name} is stored, and by its name it is the embedding and the output head in one"
        return _take_embedding(weights, config, both[0], reason)
    embeddings = _stored(weights, embeddings_among(weights.names))
    if len(embeddings) == 1 and is_generative(config) and stated_tie(config):
        reason = f"no output head is stored and {CONFIG} ties it to the embedding, which is {embeddings[0].name}"
        return _take_embedding(weights, config, embeddings[0], reason)
    return _find_by_model_class(weights, config, [], [])


def _find_by_model_class(
    weights: Weights, config: Mapping[str, object], heads: Sequence[NamedTensor], unproven: Sequence[NamedTensor]
) -> Unembedding:
    """The tensor that the model class loads as output embedding.

    ``heads``, ``unproven``: tensors that are or may be output heads by their names.
    """
    source = weights.checkpoint.source
    try:
        answer = ask_model_class(config, weights.names)
    except ModelClassUnusable as why:
        return _find_without_class(weights, config, heads, unproven, why)
    if answer.parameter is None:
        raise NoUnembedding(
            f"{source}: {answer.class_name} has no output embedding; survey a language model, or"
            f" {suggest_tensors(weights, config)}"
        )
    loaded, embeddings = _stored(weights, answer.stored_head), _stored(weights, answer.stored_embeddings)
    if len(loaded) > 1:
        names = join_limited([head.name for head in loaded])
        raise NoUnembedding(
            f"{source}: found {names} for {answer.parameter} of {answer.class_name}, expected one;"
            f" {suggest_tensors(weights, config)}"
        )
    if loaded:
        (head,) = loaded
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
        return _take_embedding(weights, config, embeddings[0], reason, answer)
    if found := _find_by_place(weights, config, heads, unproven, is_tied=answer.is_tied):
        return found
    untied = "" if answer.is_tied else " and not tied to the embedding"
    raise NoUnembedding(
        f"{source}: {answer.class_name} takes its logits from {answer.parameter}, which is not stored{untied};"
        f" an embedding or reward model has no unembedding, otherwise {suggest_tensors(weights, config)}"
    )


def _find_without_class(
    weights: Weights,
    config: Mapping[str, object],
    heads: Sequence[NamedTensor],
    unproven: Sequence[NamedTensor],
    why: ModelClassUnusable,
) -> Unembedding:
    """What names, places and config.json tell, where the model class cannot be asked."""
    is_tied = is_generative(config) and bool(_config_ties(config))
    if found := _find_by_place(weights, config, heads, unproven, is_tied=is_tied):
        unasked = () if heads else (f"the model class could not be asked: {why}",)
        return replace(found, warnings=(*found.warnings, *unasked))
    candidates = [*heads, *unproven] or _stored(weights, embeddings_among(weights.names))
    names = join_limited([candidate.name for candidate in candidates])
    seen = f"{names} could be W" if names else "no output head is stored under a known name"
    raise NoUnembedding(
        f"{weights.checkpoint.source}: {seen}, and the model class cannot tell: {why};"
        f" {suggest_tensors(weights, config)}"
    ) from why


def _find_by_place(
    weights: Weights,
    config: Mapping[str, object],
    heads: Sequence[NamedTensor],
    unproven: Sequence[NamedTensor],
    *,
    is_tied: bool,
) -> Unembedding | None:
    """The only head of the table, if nothing speaks against it; else the only other head, if the model lies under its
    prefix; else, where ``is_tied``, the only embedding. None if there is not one.
    """
    if heads:
        if len(heads) > 1 or _is_doubtful(weights, config, heads[0]):
            return None
        if heads[0].name != LM_HEAD and any(_is_head_of_the_model(weights, config, other) for other in unproven):
            return None
        return _take_head(weights, config, heads[0])
    if len(unproven) == 1 and _is_head_of_the_model(weights, config, unproven[0]):
        return _take_head(weights, config, unproven[0])
    if not is_tied:
        return None
    embeddings = _stored(weights, embeddings_among(weights.names))
    if not embeddings:
        embeddings = _stored(weights, unlisted_embeddings_among(weights.names))
        if not all(_n_rows_agree(embedding.location, config) for embedding in embeddings):
            return None
    if len(embeddings) != 1:
        return None
    said = CONFIG if stated_tie(config) else "the config class"
    reason = f"no output head is stored and {said} ties it to the embedding, which is {embeddings[0].name}"
    return _take_embedding(weights, config, embeddings[0], reason)


def _is_doubtful(weights: Weights, config: Mapping[str, object], head: NamedTensor) -> bool:
    """Whether the length of a head speaks against its name: it has no row for each token, and the tied embedding has,
    or no embedding beside it is as long. A head of classes, of audio codes or of patches may have the same name.
    """
    is_readable = _is_matrix(head.location) and head.location.dtype in FLOAT_DTYPES
    if not is_readable or _n_rows_agree(head.location, config):
        return False
    is_tied, is_generic = states_a_tie(config), not head.name.endswith(LM_HEAD)
    is_draft = stated_number(config, DRAFT_SIZE_NAMES) is not None or any(map(is_draft_map, weights.names))
    if is_draft or not (is_tied or is_generic):
        return False
    names = dict.fromkeys([*embeddings_among(weights.names), *unlisted_embeddings_among(weights.names)])
    try:
        embeddings = [found for found in _stored(weights, names) if _is_matrix(found.location)]
    except CorruptCheckpoint:  # the file with the head can be read, and that is enough
        return False
    if is_tied and any(_n_rows_agree(embedding.location, config) for embedding in embeddings):
        return True
    beside = [found for found in embeddings if found.name in HEADS.get(head.name, ())]
    return is_generic and bool(beside) and all(found.location.shape[0] not in head.location.shape for found in beside)


def _is_head_of_the_model(weights: Weights, config: Mapping[str, object], head: NamedTensor) -> bool:
    """Whether the model lies beside a head of an unknown prefix, and the head has a row for each of its tokens."""
    prefix = head.name.removesuffix(LM_HEAD)
    is_of_the_model = places_of_the_model(weights.names)
    if INSIDE_A_LAYER.search(prefix) or not _is_matrix(head.location) or not is_of_the_model(prefix):
        return False
    if stated_number(config, VOCAB_SIZE_NAMES):
        return _n_rows_agree(head.location, config)
    embeddings = [name for name in unlisted_embeddings_among(weights.names) if name.startswith(prefix)]
    return any(head.location.shape == embedding.location.shape for embedding in _stored(weights, embeddings))


def _n_rows_agree(location: TensorLocation, config: Mapping[str, object]) -> bool:
    return _is_matrix(location) and (
        has_a_row_for_each_token(location.shape[0], config) or is_column_major(location, config)
    )


def _take_head(weights: Weights, config: Mapping[str, object], head: NamedTensor) -> Unembedding:
    reason = f"{head.name} is stored, and by its name it is the output head"
    return _make_unembedding(weights, config, head, reason, _tie_state(weights, config, head))


def _take_embedding(
    weights: Weights,
    config: Mapping[str, object],
    embedding: NamedTensor,
    reason: str,
    answer: OutputEmbedding | None = None,
) -> Unembedding:
    """The embedding as W, if no head is stored that takes its place.

    ``answer``: what the model class says; None if it was not asked.
    """
    if not _is_matrix(embedding.location):
        return _make_unembedding(weights, config, embedding, reason, TieState("tied", reason))
    refuse_unread_heads(weights, config, embedding, answer.loaded if answer else None)
    rivals = rivals_of_embedding(weights, embedding, answer.loaded if answer else ())
    if rivals and answer is None:
        try:
            answer = ask_model_class(config, weights.names)
            rivals = [name for name in rivals if name not in answer.loaded]
        except ModelClassUnusable:
            pass  # so that nothing tells what the matrices are
    if rivals and not (answer and is_named(answer.class_name, config)):
        raise NoUnembedding(
            f"{weights.checkpoint.source}: found {join_limited(rivals)}, of the same size as the embedding"
            f" {embedding.name}, and no model class that says which of them gives the logits;"
            f" {suggest_tensors(weights, config)}"
        )
    found = _make_unembedding(weights, config, embedding, reason, TieState("tied", reason))
    unread = [f"{name} is of the same size as W and not read: the model class does not load it" for name in rivals]
    return replace(found, warnings=(*found.warnings, *unread))


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
    """The tensor as W, after a check that nothing beside it claims its place."""
    if _is_matrix(tensor.location):
        beside = parts_beside(weights, tensor)
        rivals = [name for name, location in beside.items() if location.shape == tensor.location.shape]
        if rivals:
            raise refuse_wrapped(weights, [tensor.name, *rivals], "of which only one can be W")
    return _measurable(weights, config, tensor, reason, tie)


def _measurable(
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
        raise NoUnembedding(
            f"{where}: found shape {list(location.shape)}, expected a matrix; {suggest_tensors(weights, config)}"
        )
    location = rows_first(location, config, where)
    if _is_reverse_of_the_embedding(weights, config, tensor):
        location = transposed(location)
    if is_smaller_than_stated(location, config):
        weights.find_in_all(name)  # refuses a slice, as tensor-parallel training saves one in each shard
    weights.refuse_unequal_copies(name)
    rows_are_not_tokens = why_rows_are_not_tokens(location.shape[0], weights.names, weights.find, config)
    warnings = tuple(warn_of_weights(weights, config, tensor.name, location, tie))
    warnings = (*_warn_of_others(weights, tensor), *warnings)
    if rows_are_not_tokens:
        warnings = (f"row i of W is not token i: {rows_are_not_tokens}", *warnings)
    return Unembedding(
        name,
        location,
        reason,
        tie.tie,
        tie.evidence,
        tie.copy,
        warnings,
        rows_are_not_tokens=rows_are_not_tokens,
    )


def _is_reverse_of_the_embedding(weights: Weights, config: Mapping[str, object], tensor: NamedTensor) -> bool:
    """Whether W lies column by column by the embeddings stored beside it, where config.json does not tell."""
    location = tensor.location
    stated = [stated_number(config, names) for names in (VOCAB_SIZE_NAMES, HIDDEN_SIZE_NAMES)]
    if None not in stated or location.strides is not None or has_a_row_for_each_token(location.shape[0], config):
        return False
    names = dict.fromkeys([*embeddings_among(weights.names), *unlisted_embeddings_among(weights.names)])
    if tensor.name in names:
        return False
    try:
        shapes = {found.location.shape for found in _stored(weights, names)}
    except CorruptCheckpoint:  # the file with W can be read, and that is enough
        return False
    return location.shape[::-1] in shapes and location.shape not in shapes


def _warn_of_others(weights: Weights, tensor: NamedTensor) -> Iterator[str]:
    """Warnings about other tensors that are named like an output head or lie below W's module."""
    if beside := parts_beside(weights, tensor):
        found = join_limited(list(beside))
        yield f"{found} beside {tensor.name} may change the logits, as an adapter does; W is as stored"
    if others := [name for name in unproven_heads_among(weights.names) if name != tensor.name]:
        yield f"also stored and not read: {join_limited(others)}; nothing says that the model's logits come from there"


def _is_matrix(location: TensorLocation) -> bool:
    return len(location.shape) == 2 and 0 not in location.shape
