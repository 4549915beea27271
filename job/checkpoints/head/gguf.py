"""Which tensor is W in a checkpoint that has only GGUF files, and why."""

from dataclasses import dataclass, field, replace

from job.checkpoints.checkpoint import Checkpoint, TensorLocation
from job.checkpoints.file_names import ADAPTER_CONFIG
from job.checkpoints.formats.gguf_file import GgufFile, Vocabulary
from job.checkpoints.formats.safetensors_header import FLOAT_DTYPES
from job.checkpoints.head.gguf_choice import choose_gguf
from job.checkpoints.head.gguf_files import SUFFIX, gguf_models, parts_of, read_model
from job.checkpoints.head.gguf_kinds import ARCHITECTURES_WITHOUT_HEAD, EMBEDDING, HEAD, draft_maps, why_not_the_model
from job.checkpoints.head.needed_files import names_of
from job.checkpoints.head.row_meaning import why_rows_are_not_tokens
from job.checkpoints.head.suggestions import advice_on, matrices_of_about
from job.checkpoints.head.warnings import warn_of_gguf
from job.errors import NoUnembedding, UnsupportedCheckpoint


@dataclass(frozen=True)
class GgufHead:
    """The tensor of GGUF files that is W."""

    name: str
    location: TensorLocation
    reason: str
    tied: bool
    warnings: tuple[str, ...]
    vocabulary: Vocabulary | None = field(repr=False)
    rows_are_not_tokens: str | None


def find_gguf_head(checkpoint: Checkpoint, tensor: str | None, file: str | None) -> GgufHead | None:
    """W, if ``file`` is a GGUF file, or no file is given and the checkpoint has weights only in GGUF; else None.

    If there are several whole models, the one whose head is not quantised is taken: F32 before BF16 before F16.

    Raises:
        NoUnembedding: several models could be meant, or the model has no unembedding.
        UnsupportedCheckpoint: the file's version, byte order or quantisation cannot be read.
        CorruptCheckpoint: a header is invalid, or parts are missing.
    """
    names = names_of(checkpoint)
    models = gguf_models(names)
    if file is not None:
        return _find_in_model(checkpoint, parts_of(file, models), tensor) if file.endswith(SUFFIX) else None
    if not models or any(map(_is_another_format, names)):
        return None
    choice = choose_gguf(checkpoint, models, tensor)
    head = _find_in_model(checkpoint, choice.parts, tensor)
    return replace(head, warnings=(*choice.warnings, *head.warnings))


def _is_another_format(file: str) -> bool:
    name = file.rpartition("/")[2]
    is_torch = name.startswith("pytorch_model") and name.endswith(".bin")
    return name.endswith(".safetensors") or is_torch or name == ADAPTER_CONFIG


def _find_in_model(checkpoint: Checkpoint, parts: list[str], tensor: str | None) -> GgufHead:
    from job.checkpoints.formats.gguf_rows import is_dequantisable  # imports numpy

    where = f"{checkpoint.source}: {parts[0]}"
    model = read_model(checkpoint, parts)
    tensors = model.tensors
    if tensor is not None and tensor not in tensors:
        raise NoUnembedding(
            f"{where}: found no tensor {tensor!r:.200}, which was asked for; give one of its tensors, such as"
            f" {HEAD if HEAD in tensors else EMBEDDING}"
        )
    tied = HEAD not in tensors and (tensor or EMBEDDING) == EMBEDDING
    if tensor is not None:
        name, reason = tensor, f"{tensor} was asked for"
    else:
        _refuse_what_has_no_head(model, tied, where)
        name = EMBEDDING if tied else HEAD
        reason = f"{HEAD} is stored, which is what GGUF calls the output head"
        if tied:
            reason = f"no {HEAD} is stored, so that llama.cpp takes the embedding, {EMBEDDING}, in its place"
    location = tensors.get(name)
    if location is None:
        raise NoUnembedding(
            f"{where}: found neither {HEAD} nor {EMBEDDING} among {len(tensors):,} tensors;"
            f" {advice_on(matrices_of_about(_n_tokens(model), tensors))}"
        )
    if len(location.shape) != 2 or 0 in location.shape:
        raise NoUnembedding(
            f"{where}: {name}: found shape {list(location.shape)}, expected a matrix; give the name of another tensor"
        )
    if location.dtype not in FLOAT_DTYPES and not is_dequantisable(location.dtype):
        raise UnsupportedCheckpoint(
            f"{where}: found {name} stored as {location.dtype}, expected a type that the gguf package can dequantise;"
            " choose another file of the model"
        )
    warnings, rows_are_not_tokens = list(warn_of_gguf(name, location, model)), _why_rows_are_not_tokens(location, model)
    if rows_are_not_tokens:
        warnings.insert(0, f"row i of W is not token i: {rows_are_not_tokens}")
    return GgufHead(name, location, reason, tied, tuple(warnings), model.vocabulary, rows_are_not_tokens)


def _n_tokens(model: GgufFile) -> int | None:
    return len(model.vocabulary.tokens) if model.vocabulary else None


def _why_rows_are_not_tokens(location: TensorLocation, model: GgufFile) -> str | None:
    vocabulary = {"vocab_size": n_tokens} if (n_tokens := _n_tokens(model)) else {}
    maps = draft_maps(model)
    return why_rows_are_not_tokens(location.shape[0], maps, maps.get, vocabulary)


def _refuse_what_has_no_head(model: GgufFile, tied: bool, where: str) -> None:
    is_model = model.metadata.get("general.type", "model") == "model"
    pools = bool(model.metadata.get(f"{model.architecture}.pooling_type", 0))
    if is_model and (model.architecture in ARCHITECTURES_WITHOUT_HEAD or (tied and pools)):
        raise NoUnembedding(
            f"{where}: found a {model.architecture} model that {'pools' if pools else 'has no head'}, expected one that"
            " gives logits over tokens; survey a language model, or give the tensor's name with the model"
        )
    if is_model and HEAD in model.tensors and draft_maps(model):
        return  # a drafter with a head of its own, whose rows are told to be no tokens
    why = why_not_the_model(model)
    has_matrix = HEAD in model.tensors or EMBEDDING in model.tensors
    if why and (has_matrix or not is_model):  # else the refusal names what could be given
        raise NoUnembedding(
            f"{where}: found {why}, expected a whole model; survey the model that it belongs to, or give the tensor's"
            " name with the model"
        )
