"""What benchmarks/same_bytes.py surveys: small checkpoints of every kind, on servers of every kind, in many ways."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import tokenizers
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # exported, but lazily
from safetensors.torch import save_file
from tokenizers.models import WordLevel

from tests.checkpoints import planted
from tests.ggufs import planted_rows, write_gguf
from tests.servers.loopback_hub import LoopbackHub
from tests.servers.seaweed import SeaweedServer

HEAD, EMBEDDING, NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"
N_ROWS, HIDDEN_SIZE = 300, 16
GROUPS = [[3, 9, 21], [10, 11], [290, 299]]
GGUF = "model.gguf"

SOUND = (
    "untied", "adapted", "no-tokenizer", "no-holes", "many-holes", "odd-numbers", "large", "sharded", "bin",
    "bin-sharded", "by-columns", "bin-by-columns", "tied", "tied-by-class", "tied-copy", "tied-but-differs", "float16",
    "float32", "float64", "gguf-f32", "gguf-bf16", "gguf-q8_0",
)  # fmt: skip
"""Those whose W can be surveyed."""

REFUSED = ("no-head", "quantised-head", "corrupt-header", "missing-shard", "adapter")
"""Those whose W cannot."""

Tensors: TypeAlias = Mapping[str, torch.Tensor]
Entry: TypeAlias = str | dict[str, str | bool]
"""A model as a list names it."""


@dataclass(frozen=True)
class Step:
    """The job is run once, by each version."""

    settings: dict[str, str] = field(default_factory=dict)
    first: Callable[[], object] | None = None
    """What happens before."""


@dataclass(frozen=True)
class Scenario:
    """Checkpoints that are read from one kind of source and published to one kind of store."""

    source: str
    sink: Literal["folder", "S3", "no bucket"]
    models: Mapping[str, Entry]
    """By the names of their checkpoints."""
    steps: Sequence[Step] = (Step(),)
    query: str | None = None
    """Finds the models, and is listed in their place."""

    @property
    def title(self) -> str:
        return f"{self.source} → {self.sink}"

    @property
    def listed(self) -> list[Entry]:
        """What the job is given."""
        return [self.query] if self.query else list(self.models.values())

    @property
    def references(self) -> dict[str, str]:
        """The checkpoints' names, by what messages call them."""
        return {entry if isinstance(entry, str) else str(entry["model"]): name for name, entry in self.models.items()}


class Bench:
    """The checkpoints and the servers that all versions of the job meet."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """``folder``: to work in. ``stack``: stops the servers."""
        self.folder, self._checkpoints, self._cache = folder, folder / "checkpoints", folder / "cache"
        write_small_checkpoints(self._checkpoints)
        self._hub = stack.enter_context(LoopbackHub())
        self._hub.add("org/gated", self._checkpoints / "untied", access="gated")
        self._hub.add("org/follows", self._checkpoints / "adapter")
        s3 = SeaweedServer(folder / "seaweed")
        stack.callback(s3.kill)
        s3.start()
        self._client = s3.client()
        for bucket in ("checkpoints", "surveys"):
            self._client.create_bucket(Bucket=bucket)
        self.environment = {"HF_ENDPOINT": self._hub.endpoint} | s3.environment()
        """How the job reaches the servers."""
        disable_progress_bars()
        for name in (*SOUND, *REFUSED):
            checkpoint = self._hub.mirrors[name] = self._checkpoints / name
            self._hub.add(f"org/{name}", checkpoint)
            snapshot_download(f"org/{name}", cache_dir=self._cache, endpoint=self._hub.endpoint, token=False)
            for file in checkpoint.iterdir():
                self._client.upload_file(str(file), "checkpoints", f"{name}/{file.name}")

    def scenarios(self) -> Iterator[Scenario]:
        """Every source with a folder and with S3; then what else a run may be asked for."""
        names = (*SOUND, *REFUSED, "missing")
        folders: dict[str, Entry] = {name: str(self._checkpoints / name) for name in names}
        cached: dict[str, Entry] = {name: str(self._cache / f"models--org--{name}") for name in names}
        objects: dict[str, Entry] = {name: f"s3://checkpoints/{name}" for name in names}
        pages: dict[str, Entry] = {name: f"{self._hub.endpoint}/mirror/{name}" for name in names}
        pages |= {name: {"model": str(pages[name]), "file": GGUF} for name in names if name.startswith("gguf")}
        found: dict[str, Entry] = {name: f"org/{name}" for name in (*SOUND, *REFUSED, "gated")}
        named = found | {"missing": "org/missing", "adapted": {"model": "org/follows", "follow_base": True}}
        few = {name: folders[name] for name in ("untied", "by-columns", "gguf-q8_0", "large")}
        mixed = few | {
            "sharded": named["sharded"],
            "bin": pages["bin"],
            "tied": objects["tied"],
            "gated": named["gated"],
        }
        chosen: dict[str, Entry] = {"untied": {"model": "org/untied", "tensor": EMBEDDING, "note": "not its head"}}
        in_turn = [Step({"TENSORS": "mu,black_holes"}), Step()]
        workers = [Step({"RUN": "a", "JOB_COMPLETIONS": "2", "JOB_COMPLETION_INDEX": index}) for index in "01"]
        sinks: Sequence[Literal["folder", "S3"]] = ("folder", "S3")
        for sink in sinks:
            yield Scenario("folder", sink, folders)
            yield Scenario("S3", sink, objects)
            yield Scenario("web server", sink, pages)
            yield Scenario("folder, tensors in turn", sink, few, in_turn)
            yield Scenario("all sources, 2 workers", sink, mixed, workers)
        yield Scenario("folder, torch-unique", "folder", folders, [Step({"DEDUP": "torch-unique"})])
        yield Scenario("the Hub's cache", "folder", cached)
        yield Scenario("the Hub, a query", "folder", found, query="hub?author=org")
        yield Scenario("the Hub, a chosen tensor", "folder", chosen)
        yield Scenario("the Hub", "S3", named)
        yield Scenario("the Hub, then new commits", "folder", named, [Step(), Step(first=self._commit_again)])
        yield Scenario("folder", "no bucket", few)

    def _commit_again(self) -> None:
        """New commits on the Hub: one leaves W as it was, the other brings another W."""
        for name, replaced_by in (("untied", "untied"), ("sharded", "no-holes")):
            folder = shutil.copytree(self._checkpoints / replaced_by, self.folder / "later" / name)
            (folder / "README.md").write_text("a new commit")
            self._hub.add(f"org/{name}", folder)

    def output(self, scenario: Scenario, work: Path) -> str:
        """Where a version that works in a folder publishes to."""
        bucket = "no-such-bucket" if scenario.sink == "no bucket" else "surveys"
        return str(work / "surveys") if scenario.sink == "folder" else f"s3://{bucket}/{work.name}"

    def published(self, output: str) -> dict[str, bytes]:
        """Every file that is there."""
        if not output.startswith("s3://"):
            files = (path for path in Path(output).rglob("*") if path.is_file())
            return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}
        prefix = output.removeprefix("s3://surveys/") + "/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket="surveys", Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {
            key.removeprefix(prefix): self._client.get_object(Bucket="surveys", Key=key)["Body"].read() for key in keys
        }


def write_small_checkpoints(folder: Path) -> None:
    """Write each of SOUND and REFUSED below a folder."""
    head, embedding = planted(N_ROWS, HIDDEN_SIZE, GROUPS), planted(N_ROWS, HIDDEN_SIZE, [[1, 2]])
    body = {NORM: torch.ones(HIDDEN_SIZE, dtype=torch.bfloat16)}
    untied = {HEAD: head, EMBEDDING: embedding, **body}
    for name in ("untied", "adapted"):
        _write(folder / name, untied)
    _write(folder / "no-tokenizer", untied, n_tokens=0)
    _write(folder / "no-holes", {HEAD: planted(N_ROWS, HIDDEN_SIZE, [])})
    _write(folder / "many-holes", {HEAD: planted(600, HIDDEN_SIZE, [[row, row + 1] for row in range(0, 600, 2)])})
    _write(folder / "odd-numbers", {HEAD: _odd_numbers()})
    # Larger than a request and than a block of rows, so that both are put together.
    large, size = (
        planted(20_000, 224, [[7, 19_999], [5_000, 12_000, 18_000]]),
        {"vocab_size": 20_000, "hidden_size": 224},
    )
    _write(folder / "large", {HEAD: large}, config=size)
    for dtype in (torch.float16, torch.float32, torch.float64):
        _write(folder / str(dtype).removeprefix("torch."), {HEAD: planted(N_ROWS, HIDDEN_SIZE, GROUPS, dtype)})

    shards = {"1-of-2": {EMBEDDING: embedding}, "2-of-2": {HEAD: head, **body}}
    _write_shards(folder / "sharded", {f"model-{part}.safetensors": held for part, held in shards.items()})
    _write_shards(folder / "bin-sharded", {f"pytorch_model-{part}.bin": held for part, held in shards.items()})
    _write(folder / "bin", untied, file="pytorch_model.bin")
    _write(folder / "by-columns", {HEAD: head.T.contiguous(), **body})
    _write(folder / "bin-by-columns", {HEAD: head.T.contiguous().T, **body}, file="pytorch_model.bin")

    _write(folder / "tied", {EMBEDDING: head, **body}, config={"tie_word_embeddings": True})
    gemma = {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "tie_word_embeddings": None}
    _write(folder / "tied-by-class", {EMBEDDING: head, **body}, config=gemma)
    _write(folder / "tied-copy", {HEAD: head, EMBEDDING: head.clone()}, config={"tie_word_embeddings": True})
    almost = head.clone()
    almost[5, 0] += 1000  # in no row that is sampled, so that all bytes have to be compared
    _write(folder / "tied-but-differs", {HEAD: head, EMBEDDING: almost}, config={"tie_word_embeddings": True})

    tokens = [f"token{number}" for number in range(N_ROWS)]
    for kind in ("F32", "BF16", "Q8_0"):
        tensors = {"output.weight": (planted_rows(kind, N_ROWS, GROUPS), kind)}
        keys = {"tokenizer.ggml.model": "gpt2"}
        write_gguf(folder / f"gguf-{kind.lower()}" / GGUF, tensors, keys, tokens=tokens)

    _write(folder / "no-head", {EMBEDDING: embedding, **body})
    packed = {"lm_head.qweight": torch.zeros(2, 2, dtype=torch.int32), "lm_head.scales": torch.ones(2, 2)}
    _write(folder / "quantised-head", {EMBEDDING: embedding, **packed})
    _write(folder / "corrupt-header", untied)
    (folder / "corrupt-header" / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}" * 100)
    _write_shards(folder / "missing-shard", {f"model-{part}.safetensors": held for part, held in shards.items()})
    (folder / "missing-shard" / "model-2-of-2.safetensors").unlink()
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/adapted"}')
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"")


def _odd_numbers() -> torch.Tensor:
    """Rows of +0 and of −0, alike by value and not by bits; of the same NaNs and of others; an infinity."""
    w = planted(N_ROWS, HIDDEN_SIZE, GROUPS)
    w[[30, 31]], w[[32, 33]] = 0.0, -0.0
    w[[40, 41]] = torch.nan
    w[42] = w[40].view(torch.int16).bitwise_or(1).view(torch.bfloat16)
    w[50, 5] = torch.inf
    return w


def _write(
    folder: Path,
    tensors: Tensors,
    *,
    config: Mapping[str, object] | None = None,
    file: str = "model.safetensors",
    n_tokens: int = 200,
) -> None:
    """A checkpoint of one weight file. ``config``: what config.json says otherwise; None: it does not say that."""
    folder.mkdir(parents=True)
    stated: dict[str, object] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1}
    stated |= {"num_attention_heads": 4, "num_key_value_heads": 4}
    stated |= {"vocab_size": N_ROWS, "hidden_size": HIDDEN_SIZE, "tie_word_embeddings": False} | dict(config or {})
    stated = {key: value for key, value in stated.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(stated))
    _save(tensors, folder / file)
    if n_tokens:
        vocabulary = {f"token{number}": number for number in range(n_tokens)}
        tokenizer = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="token0"))  # noqa: S106 - no password
        tokenizer.save(str(folder / "tokenizer.json"))


def _write_shards(folder: Path, shards: Mapping[str, Tensors]) -> None:
    """A checkpoint of several weight files, with the index that says what is where."""
    first, *others = shards
    _write(folder, shards[first], file=first)
    for file in others:
        _save(shards[file], folder / file)
    kind = "pytorch_model.bin" if first.endswith(".bin") else "model.safetensors"
    index = {"weight_map": {name: file for file, tensors in shards.items() for name in tensors}}
    (folder / f"{kind}.index.json").write_text(json.dumps(index))


def _save(tensors: Tensors, path: Path) -> None:
    if path.suffix == ".bin":
        torch.save(dict(tensors), path)
    else:
        save_file(dict(tensors), path)
