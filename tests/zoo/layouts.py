"""How published checkpoints are laid out: small ones, each with the tensor that is W in it, or the refusal it deserves.

Every matrix is filled from its own file and name, so that none can be taken for another.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import save_file

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.head.tie import Tie
from job.checkpoints.sources.folder import open_folder
from job.errors import CorruptCheckpoint, ModelError, NoUnembedding, UnsupportedCheckpoint

ROWS, COLUMNS = 48, 8

HEAD, EMBEDDING, NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"
INDEX = "model.safetensors.index.json"

Tensors = Mapping[str, "Spec"] | tuple[str, ...]
Content = Tensors | bytes | Mapping[str, object]


@dataclass(frozen=True)
class Spec:
    """A tensor to be stored: random, or as another one."""

    shape: tuple[int, ...] = (ROWS, COLUMNS)
    dtype: torch.dtype = torch.bfloat16
    same_as: str | None = None

    def fill(self, file: str, name: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(crc32(f"{file}/{self.same_as or name}".encode()))
        return torch.randn(self.shape, generator=generator).mul(50).to(self.dtype)


def config(**settings: object) -> dict[str, object]:
    """A config.json of Llama's, untied unless ``settings`` say otherwise (None: silent)."""
    base = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
    base |= {"hidden_size": COLUMNS, "vocab_size": ROWS, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {key: value for key, value in (base | settings).items() if value is not None}


TIED = config(tie_word_embeddings=True)
UNKNOWN = {"architectures": ["HomeMadeForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling_home.HomeMade"}}


@dataclass(frozen=True)
class Layout:
    """A checkpoint and what is to be found in it."""

    files: Mapping[str, Content]
    w: str | None = None
    """The tensor that is W; None where the checkpoint is to be refused."""
    file: str = "model.safetensors"
    tie: Tie = "untied"
    shape: tuple[int, int] = (ROWS, COLUMNS)
    by_columns: bool = False
    """Whether W is stored the other way."""
    says: tuple[str, ...] = ()
    """What the warnings, or the refusal, have to say."""
    refusal: type[ModelError] | None = None
    settings: Mapping[str, object] = field(default_factory=lambda: config())

    def write(self, folder: Path) -> Checkpoint:
        files: dict[str, Content] = {"config.json": self.settings, **self.files}
        for file, content in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif file.endswith(".json"):
                path.write_text(json.dumps(content))
            else:
                save_file(filled(file, content), path)
        return open_folder(folder)


def filled(file: str, tensors: Content) -> dict[str, torch.Tensor]:
    """The tensors of a file; of those that are only named, all are matrices of bfloat16."""
    assert not isinstance(tensors, bytes)
    specs = {name: Spec() for name in tensors} if isinstance(tensors, tuple) else tensors
    found = {}
    for name, spec in specs.items():
        assert isinstance(spec, Spec)
        found[name] = spec.fill(file, name)
    return found


def index(**shards: tuple[str, ...]) -> dict[str, object]:
    """An index, from the names that it claims for ``a.safetensors``, ``b.safetensors``, …"""
    return {"weight_map": {name: f"{shard}.safetensors" for shard, names in shards.items() for name in names}}


def shard(number: int, total: int, stem: str = "model", ending: str = "safetensors") -> str:
    return f"{stem}-{number:05}-of-{total:05}.{ending}"


MODEL = (EMBEDDING, HEAD, NORM)

WEIGHT_SETS = {
    "one file": Layout({"model.safetensors": MODEL}, HEAD),
    "an index": Layout(
        {INDEX: index(a=(EMBEDDING,), b=(HEAD,)), "a.safetensors": (EMBEDDING,), "b.safetensors": (HEAD,)},
        HEAD, "b.safetensors",
    ),
    "one file beside a stale index": Layout({"model.safetensors": MODEL, INDEX: index(gone=(HEAD,))}, HEAD),
    "an index of the one file": Layout({"model.safetensors": MODEL, INDEX: index(model=MODEL)}, HEAD),
    "shards without an index": Layout(
        {shard(1, 2): (EMBEDDING,), shard(2, 2): (HEAD,)}, HEAD, shard(2, 2), says=("without an index",)
    ),
    "shards counted from 0": Layout({shard(0, 2): (EMBEDDING,), shard(1, 2): (HEAD,)}, HEAD, shard(1, 2)),
    "one shard of one": Layout({shard(1, 1): MODEL}, HEAD, shard(1, 1)),
    "shards, one missing": Layout(
        {shard(1, 4): (EMBEDDING,), shard(2, 4): (HEAD,), shard(4, 4): (NORM,)},
        refusal=CorruptCheckpoint, says=("model.safetensors: found 3 of 4 shards", "number 3",),
    ),
    "shards of an absurd number": Layout(
        {shard(1, 999_999_999): MODEL},
        refusal=CorruptCheckpoint, says=("found 1 of 999,999,999", "number 2, 3, 4, 5, 6"),
    ),
    "two complete sets of shards": Layout(
        {shard(1, 1): MODEL, shard(1, 2): (EMBEDDING,), shard(2, 2): (HEAD,)},
        refusal=UnsupportedCheckpoint, says=("sets of 1 and of 2 shards",),
    ),
    "half of an older set beside a whole one": Layout(
        {shard(1, 3): MODEL, shard(1, 2): (EMBEDDING,), shard(2, 2): (HEAD,)}, HEAD, shard(2, 2)
    ),
    "Mistral's own files beside the usual ones": Layout(
        {"model.safetensors": MODEL, "consolidated.safetensors": ("output.weight", "tok_embeddings.weight")},
        HEAD, says=("model.safetensors is what transformers loads", "not read: consolidated.safetensors"),
    ),
    "Mistral's own files alone": Layout(
        {"consolidated.safetensors": ("output.weight", "tok_embeddings.weight")},
        "output.weight", "consolidated.safetensors", says=("consolidated.safetensors is the only set",),
    ),
    "Mistral's own shards": Layout(
        {shard(1, 2, "consolidated"): ("tok_embeddings.weight",), shard(2, 2, "consolidated"): ("output.weight",)},
        "output.weight", shard(2, 2, "consolidated"),
    ),
    "original, metal, onnx and GGUF beside": Layout(
        {
            "model.safetensors": MODEL,
            "original/model.safetensors": ("unembedding.weight", "embedding.weight"),
            "metal/model.bin": b"",
            "onnx/model.onnx": b"",
            "home-Q4_K_M.gguf": b"",
        },
        HEAD, says=("not read: home-Q4_K_M.gguf, original/",),
    ),
    "a variant beside": Layout(
        {"model.safetensors": MODEL, "model.fp16.safetensors": MODEL}, HEAD, says=("not read: model.fp16.safetensors",)
    ),
    "a variant alone": Layout(
        {"model.fp16.safetensors": MODEL}, HEAD, "model.fp16.safetensors", says=("is the only variant",)
    ),
    "a variant with an index": Layout(
        {"model.safetensors.index.fp16.json": index(a=MODEL), "a.safetensors": MODEL}, HEAD, "a.safetensors",
        says=("model.safetensors.index.fp16.json is the only variant",),
    ),
    "a variant in shards, as older tools number them": Layout(
        {shard(1, 2, "model.fp16"): (EMBEDDING,), shard(2, 2, "model.fp16"): (HEAD,)}, HEAD, shard(2, 2, "model.fp16")
    ),
    "a variant in shards, as newer tools number them": Layout(
        {shard(1, 2, ending="fp16.safetensors"): (EMBEDDING,), shard(2, 2, ending="fp16.safetensors"): (HEAD,)},
        HEAD, shard(2, 2, ending="fp16.safetensors"),
    ),
    "two variants": Layout(
        {"model.fp16.safetensors": MODEL, "model.bf16.safetensors": MODEL},
        refusal=UnsupportedCheckpoint, says=("model.bf16.safetensors", "model.fp16.safetensors", "one set"),
    ),
    "a file of another name": Layout({"llama-7b.safetensors": MODEL}, HEAD, "llama-7b.safetensors"),
    "two files of other names": Layout(
        {"llama.safetensors": MODEL, "qwen.safetensors": MODEL},
        refusal=UnsupportedCheckpoint, says=("llama.safetensors, qwen.safetensors", "one set"),
    ),
    "what trainers leave": Layout(
        {
            "model.safetensors": MODEL, "checkpoint-5/model.safetensors": MODEL,
            "optimizer.bin": b"", "training_args.bin": b"",
        },
        HEAD, says=("not read: checkpoint-5/",),
    ),
    "the only folder with weights": Layout(
        {"README.md": b"", "lm/model.safetensors": MODEL, "lm/config.json": TIED | {"vocab_size": ROWS - 3}},
        HEAD, "lm/model.safetensors", "config_says_tied_but_differ", says=("only folder with weights", "it is padded"),
    ),
    "an index in the only folder with weights": Layout(
        {f"lm/{INDEX}": index(a=MODEL), "lm/a.safetensors": MODEL}, HEAD, "lm/a.safetensors"
    ),
    "a pipeline of several models": Layout(
        {"text_encoder/model.safetensors": MODEL, "unet/model.safetensors": (NORM,), "model_index.json": {}},
        refusal=UnsupportedCheckpoint, says=("found weights in text_encoder/, unet/", "s3:// prefix"),
    ),
    "Meta's own files": Layout(
        {"original/consolidated.00.pth": b"", "original/params.json": {}},
        refusal=UnsupportedCheckpoint, says=("found original/consolidated.00.pth", "converted to safetensors"),
    ),
    "GGUF for a projector only": Layout(
        {"mmproj-F16.gguf": b""}, refusal=UnsupportedCheckpoint, says=("found mmproj-F16.gguf",)
    ),
    "no weights at all": Layout({"README.md": b""}, refusal=UnsupportedCheckpoint, says=("found no weights",)),
    "an index that names absent tensors": Layout(
        {INDEX: index(a=(EMBEDDING, HEAD)), "a.safetensors": (EMBEDDING, NORM)},
        EMBEDDING, "a.safetensors", "tied", settings=TIED,
    ),
    "an index that names the wrong shard": Layout(
        {INDEX: index(a=(EMBEDDING, HEAD), b=(NORM,)), "a.safetensors": (EMBEDDING,), "b.safetensors": (HEAD, NORM)},
        HEAD, "b.safetensors",
    ),
    "an index that names a missing shard": Layout(
        {INDEX: index(a=(EMBEDDING,), b=(HEAD,)), "a.safetensors": (EMBEDDING,)},
        refusal=CorruptCheckpoint, says=("found no file 'b.safetensors'", "which the index names"),
    ),
    "an index that leaves the checkpoint": Layout(
        {INDEX: {"weight_map": {HEAD: "../../model.safetensors"}}},
        refusal=CorruptCheckpoint, says=("found no file '../../model.safetensors'", "which the index names"),
    ),
    "an index with a name twice": Layout(
        {
            INDEX: b'{"weight_map": {"lm_head.weight": "a.safetensors", "lm_head.weight": "b.safetensors"}}',
            "a.safetensors": MODEL,
        },
        refusal=CorruptCheckpoint, says=("'lm_head.weight' occurs 2 times",),
    ),
    "only the shard with the embedding is missing": Layout(
        {INDEX: index(a=(EMBEDDING,), b=(HEAD,)), "b.safetensors": (HEAD,)}, HEAD, "b.safetensors"
    ),
}  # fmt: skip

TYING = {
    "head and embedding differ": Layout({"model.safetensors": MODEL}, HEAD),
    "they differ and the config ties them": Layout(
        {"model.safetensors": MODEL}, HEAD, tie="config_says_tied_but_differ", settings=TIED,
        says=("differ, as in row 0, although the config ties them", "transformers 4 loads the embedding"),
    ),
    "they differ and the config class ties them": Layout(
        {"model.safetensors": MODEL}, HEAD, tie="config_says_tied_but_differ",
        settings=config(architectures=["GemmaForCausalLM"], model_type="gemma", tie_word_embeddings=None),
    ),
    "they differ and nothing says anything": Layout({"model.safetensors": MODEL}, HEAD, settings=UNKNOWN),
    "a copy": Layout({"model.safetensors": {EMBEDDING: Spec(same_as=HEAD), HEAD: Spec()}}, HEAD, tie="tied_copy"),
    "a copy of another dtype": Layout(
        {"model.safetensors": {EMBEDDING: Spec(same_as=HEAD, dtype=torch.float32), HEAD: Spec()}}, HEAD
    ),
    "an embedding of other width": Layout({"model.safetensors": {EMBEDDING: Spec((ROWS, 4)), HEAD: Spec()}}, HEAD),
    "tied at the top, silent inside": Layout(
        {"model.safetensors": (EMBEDDING,)}, EMBEDDING, tie="tied", settings=TIED | {"text_config": {}}
    ),
    "tied inside alone": Layout(
        {"model.safetensors": ("model.language_model.embed_tokens.weight",)},
        "model.language_model.embed_tokens.weight", tie="tied",
        settings={
            "architectures": ["Gemma3ForConditionalGeneration"],
            "text_config": {"tie_word_embeddings": True, "hidden_size": COLUMNS, "vocab_size": ROWS},
        },
    ),
    "no embedding is known": Layout({"model.safetensors": (HEAD,)}, HEAD),
}  # fmt: skip

MATRICES = {
    "more rows than tokens": Layout(
        {"model.safetensors": MODEL}, HEAD, settings=config(vocab_size=41),
        says=("48 rows", "vocab_size to 41", "padded"),
    ),
    "fewer rows than tokens": Layout(
        {"model.safetensors": MODEL}, HEAD, settings=config(vocab_size=50),
        says=("48 rows", "vocab_size to 50", "short"),
    ),
    "OPT's projected head": Layout(
        {"model.safetensors": ("model.decoder.embed_tokens.weight",)}, "model.decoder.embed_tokens.weight", tie="tied",
        settings={
            "architectures": ["OPTForCausalLM"], "model_type": "opt", "tie_word_embeddings": True,
            "hidden_size": 16, "word_embed_proj_dim": COLUMNS, "vocab_size": ROWS,
        },
        says=("8 columns", "hidden_size to 16", "word_embed_proj_dim to 8", "projection"),
    ),
    "stored as hidden size × vocabulary": Layout(
        {"model.safetensors": {HEAD: Spec((COLUMNS, ROWS)), EMBEDDING: Spec()}}, HEAD, by_columns=True, says=("8 × 48",)
    ),
    "stored as hidden size × padded vocabulary": Layout(
        {"model.safetensors": {HEAD: Spec((16, 2000)), EMBEDDING: Spec((2000, 16))}}, HEAD, shape=(2000, 16),
        settings=config(hidden_size=16, vocab_size=1987), by_columns=True, says=("16 × 2,000", "padded"),
    ),
    "by columns, with a copy": Layout(
        {"model.safetensors": {HEAD: Spec((COLUMNS, ROWS)), EMBEDDING: Spec((COLUMNS, ROWS), same_as=HEAD)}},
        HEAD, tie="tied_copy", by_columns=True, says=("8 × 48",),
    ),
    "as wide as it is long": Layout(
        {"model.safetensors": {HEAD: Spec((16, 16)), EMBEDDING: Spec((16, 16))}}, HEAD, shape=(16, 16),
        settings=config(hidden_size=16, vocab_size=16),
    ),
    "rows and columns that could both be the vocabulary": Layout(
        {"model.safetensors": {HEAD: Spec((16, 20)), EMBEDDING: Spec((16, 20))}}, HEAD, shape=(16, 20),
        settings=config(hidden_size=16, vocab_size=10),
    ),
    "as many columns as tokens, and rows that are nothing known": Layout(
        {"model.safetensors": {HEAD: Spec((8, 48)), EMBEDDING: Spec()}}, HEAD, shape=(8, 48),
        settings=config(hidden_size=12, vocab_size=48), says=("W has 8 rows", "short"),
    ),
    "fewer tokens than columns": Layout(
        {"model.safetensors": {HEAD: Spec((8, 48)), EMBEDDING: Spec((8, 48))}}, HEAD, shape=(8, 48),
        settings=config(hidden_size=48, vocab_size=8),
    ),
    "a vector": Layout(
        {"model.safetensors": {HEAD: Spec((ROWS,))}},
        refusal=NoUnembedding, says=("found shape [48]", "expected a matrix"),
    ),
    "Baichuan 2's normalised head": Layout(
        {"model.safetensors": {HEAD: Spec((125_696, 2)), EMBEDDING: Spec((125_696, 2))}}, HEAD, shape=(125_696, 2),
        settings=config(model_type="baichuan", vocab_size=125_696, hidden_size=2), says=("normalises the rows",),
    ),
    "Baichuan 1's plain head": Layout(
        {"model.safetensors": MODEL}, HEAD, settings=config(model_type="baichuan", vocab_size=64_000), says=("short",)
    ),
    "a bias and scaled logits": Layout(
        {"model.safetensors": {HEAD: Spec(), EMBEDDING: Spec(), "lm_head.bias": Spec((ROWS,))}}, HEAD,
        settings=config(logit_scale=0.0625), says=("lm_head.bias is added", "logit_scale to 0.0625"),
    ),
}  # fmt: skip

MODELS = {
    "an encoder-decoder": Layout(
        {"model.safetensors": ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")},
        "shared.weight", tie="tied",
        settings={
            "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "num_layers": 1, "d_model": COLUMNS,
        },
    ),
    "an encoder-decoder with a head": Layout(
        {"model.safetensors": ("shared.weight", HEAD)}, HEAD,
        settings={
            "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "num_layers": 1, "d_model": COLUMNS,
            "tie_word_embeddings": False,
        },
    ),
    "a state-space model": Layout(
        {"model.safetensors": ("backbone.embeddings.weight",)}, "backbone.embeddings.weight", tie="tied",
        settings={"architectures": ["MambaForCausalLM"], "model_type": "mamba", "num_hidden_layers": 1},
    ),
    "GPT-2 as first published": Layout(
        {"model.safetensors": ("wte.weight",)}, "wte.weight", tie="tied",
        settings={"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 1},
    ),
    "remote code with a head": Layout(
        {"model.safetensors": MODEL, "modeling_home.py": b"raise SystemExit"}, HEAD, settings=UNKNOWN
    ),
    "remote code without a head": Layout(
        {"model.safetensors": (EMBEDDING,), "modeling_home.py": b"raise SystemExit"}, settings=UNKNOWN,
        refusal=NoUnembedding, says=("model.embed_tokens.weight could be W", "HomeMadeForCausalLM", "give the tensor"),
    ),
    "remote code without a head, tied": Layout(
        {"model.safetensors": (EMBEDDING,)}, EMBEDDING, tie="tied", settings=UNKNOWN | {"tie_word_embeddings": True}
    ),
    "multi-token prediction beside": Layout(
        {"model.safetensors": (*MODEL, "mtp.lm_head.weight", "model.layers.61.shared_head.head.weight")}, HEAD
    ),
    "an embedding model": Layout(
        {"model.safetensors": ("embed_tokens.weight", "norm.weight")},
        settings=config(architectures=["LlamaModel"]),
        refusal=NoUnembedding, says=("LlamaModel has no output embedding",),
    ),
    "a reward model": Layout(
        {"model.safetensors": (EMBEDDING, "score.weight")},
        settings=config(architectures=["LlamaForSequenceClassification"]),
        refusal=NoUnembedding,
        says=("LlamaForSequenceClassification has no output embedding", "survey a language model"),
    ),
    "a reward model that calls itself generative": Layout(
        {"model.safetensors": (EMBEDDING, "v_head.summary.weight")},
        refusal=NoUnembedding, says=("lm_head.weight, which is not stored and not tied", "give the tensor"),
    ),
    "two heads": Layout(
        {"model.safetensors": ("a.lm_head.weight", "b.lm_head.weight")}, settings=UNKNOWN,
        refusal=NoUnembedding, says=("a.lm_head.weight, b.lm_head.weight could be W", "give the tensor"),
    ),
}  # fmt: skip

ADAPTER = {"adapter_model.safetensors": ("base_model.model.lm_head.lora_A.weight",)}

ADAPTERS = {
    "an adapter": Layout(
        {**ADAPTER, "adapter_config.json": {"base_model_name_or_path": "org/base"}},
        refusal=UnsupportedCheckpoint, says=("found an adapter", "'org/base'", "follow_base: true"),
    ),
    "an adapter with its own head": Layout(
        {
            **ADAPTER,
            "adapter_config.json": {"base_model_name_or_path": "org/base", "modules_to_save": ["model.lm_head"]},
        },
        refusal=UnsupportedCheckpoint, says=("found an adapter", "it has its own lm_head, which the base lacks"),
    ),
    "an adapter that names no base": Layout(
        {**ADAPTER, "adapter_config.json": {"peft_type": "LORA"}},
        refusal=UnsupportedCheckpoint, says=("found an adapter", "which it does not name"),
    ),
    "an adapter with its checkpoints": Layout(
        {
            **ADAPTER,
            "adapter_config.json": {"base_model_name_or_path": "a/b"},
            "checkpoint-5/adapter_model.safetensors": (NORM,),
        },
        refusal=UnsupportedCheckpoint, says=("found an adapter", "'a/b'"),
    ),
    "an adapter whose config is none": Layout(
        {**ADAPTER, "adapter_config.json": b"[1]"},
        refusal=CorruptCheckpoint, says=("adapter_config.json", "expected an object"),
    ),
    "an adapter that names two bases": Layout(
        {**ADAPTER, "adapter_config.json": b'{"base_model_name_or_path": "a/b", "base_model_name_or_path": "c/d"}'},
        refusal=CorruptCheckpoint, says=("'base_model_name_or_path' occurs 2 times",),
    ),
    "an adapter merged into a whole model": Layout(
        {**ADAPTER, "adapter_config.json": {"base_model_name_or_path": "org/base"}, "model.safetensors": MODEL}, HEAD
    ),
}  # fmt: skip

U8, I8, I16, I32, F16, F32, FP8 = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.float16, torch.float32, torch.float8_e4m3fn
)  # fmt: skip


def quantised(dtypes: Mapping[str, torch.dtype], *says: str, method: str | None = None, tied: bool = False) -> Layout:
    """A checkpoint whose head, or embedding where ``tied``, is stored as these tensors."""
    name, norm = ("model.embed_tokens" if tied else "lm_head"), {NORM: Spec((COLUMNS,))}
    tensors = {f"{name}.{part}": Spec((4, 4), dtype) for part, dtype in dtypes.items()}
    embedding = {} if tied else {EMBEDDING: Spec()}
    settings = config(tie_word_embeddings=tied, quantization_config={"quant_method": method} if method else None)
    expected = (*says, "expected one of BF16, F16, F32, F64", "survey the model it was quantised from")
    return Layout(
        {"model.safetensors": tensors | embedding | norm},
        settings=settings, refusal=UnsupportedCheckpoint, says=expected,
    )  # fmt: skip


QUANTISED = {
    "GPTQ": quantised(
        {"qweight": I32, "qzeros": I32, "scales": F16, "g_idx": I32},
        "lm_head.qweight (I32)", "GPTQ, config.json names 'gptq'", method="gptq",
    ),
    "AWQ": quantised(
        {"qweight": I32, "qzeros": I32, "scales": F16},
        "lm_head.qzeros (I32)", "GPTQ or AWQ", "'awq'", method="awq",
    ),
    "FP8": quantised({"weight": FP8, "weight_scale": F32}, "F8_E4M3 beside lm_head.weight_scale (F32)", "FP8"),
    "FP8 in blocks": quantised(
        {"weight": FP8, "weight_scale_inv": F32},
        "F8_E4M3 beside lm_head.weight_scale_inv", "'fp8'", method="fp8",
    ),
    "NVFP4 of ModelOpt": quantised(
        {"weight": U8, "weight_scale": FP8, "weight_scale_2": F32},
        "U8 beside lm_head.weight_scale (F8_E4M3), lm_head.weight_scale_2 (F32)", "NVFP4",
    ),
    "NVFP4 of compressed-tensors": quantised(
        {"weight_packed": U8, "weight_scale": FP8, "weight_global_scale": F32},
        "lm_head.weight_packed (U8)", "NVFP4",
    ),
    "compressed-tensors": quantised(
        {"weight_packed": I32, "weight_scale": F16, "weight_shape": I32},
        "lm_head.weight_packed (I32)", "compressed-tensors",
    ),
    "MXFP4": quantised({"weight_blocks": U8, "weight_scales": U8}, "lm_head.weight_blocks (U8)", "MXFP4"),
    "MXFP4 under the weight's name": quantised(
        {"weight": U8, "weight_scale": U8},
        "U8 beside lm_head.weight_scale (U8)", "MXFP4",
    ),
    "bitsandbytes, 4 bits": quantised(
        {"weight": U8, "weight.absmax": U8, "weight.quant_state.bitsandbytes__nf4": U8},
        "U8 beside lm_head.weight.absmax", "bitsandbytes, 4 bits",
    ),
    "bitsandbytes, 8 bits": quantised(
        {"weight": I8, "SCB": F32},
        "I8 beside lm_head.SCB (F32)", "bitsandbytes, 8 bits",
    ),
    "MLX, tied": quantised(
        {"weight": torch.uint32, "scales": F16, "biases": F16},
        "U32 beside model.embed_tokens.biases (F16), model.embed_tokens.scales (F16)", "MLX", tied=True,
    ),
    "HQQ": quantised({"W_q": U8, "scale": F16, "zero": F16}, "lm_head.W_q (U8)", "HQQ"),
    "EXL2": quantised(
        {"q_weight": I32, "q_scale": I32, "q_scale_max": F16, "q_groups": I16},
        "lm_head.q_weight (I32)", "EXL2",
    ),
    "EXL3": quantised({"trellis": I16, "suh": F16, "svh": F16}, "lm_head.trellis (I16)", "EXL3"),
    "AQLM": quantised({"codes": I8, "codebooks": F16, "scales": F16}, "lm_head.codebooks (F16)", "AQLM"),
    "Quanto": quantised({"weight._data": I8, "weight._scale": F16}, "lm_head.weight._data (I8)", "Quanto"),
    "torchao": quantised({"weight_qdata": I8, "weight_scale": F32}, "lm_head.weight_qdata (I8)", "torchao"),
    "integers with nothing beside": quantised(
        {"weight": I8},
        "stored as I8 (recognised as integers of 8 bits)",
    ),
}  # fmt: skip

FLOAT_HEADS_OF_QUANTISED_MODELS = {
    "a float head over GPTQ layers": Layout(
        {"model.safetensors": dict.fromkeys(MODEL, Spec()) | {"model.layers.0.mlp.up_proj.qweight": Spec(dtype=I32)}},
        HEAD, settings=config(quantization_config={"quant_method": "gptq"}),
    ),
    "a float embedding over a quantised head is not W": quantised({"qweight": I32}, "lm_head.qweight"),
    "a float head with a scale beside it": Layout(
        {"model.safetensors": {HEAD: Spec(), EMBEDDING: Spec(), "lm_head.weight_scale": Spec((1,), F32)}}, HEAD,
        says=("lm_head.weight_scale beside lm_head.weight may scale it",),
    ),
}  # fmt: skip

LAYOUTS: Mapping[str, Layout] = (
    WEIGHT_SETS | TYING | MATRICES | MODELS | ADAPTERS | QUANTISED | FLOAT_HEADS_OF_QUANTISED_MODELS
)
