"""Seconds and requests that a plan takes, over many models on a Hub on this machine whose every answer is delayed.

    .venv/bin/python -m benchmarks.plan                    200 models, 50 ms before each answer

A fifth of the models are of each kind: one file; shards with an index; tied, and silent about it, so that the model
class is asked; without an unembedding; gated.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.servers.loopback_hub import LoopbackHub

ROOT = Path(__file__).parents[1]
HEAD, EMBEDDING, BODY = "lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"
KINDS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "single": ("LlamaForCausalLM", {"model.safetensors": (HEAD, EMBEDDING, BODY)}),
    "sharded": ("LlamaForCausalLM", {"1-of-2.safetensors": (EMBEDDING, BODY), "2-of-2.safetensors": (HEAD,)}),
    "tied": ("Gemma2ForCausalLM", {"model.safetensors": (EMBEDDING, BODY)}),
    "headless": ("LlamaModel", {"model.safetensors": (EMBEDDING, BODY)}),
    "gated": ("LlamaForCausalLM", {"model.safetensors": (HEAD, EMBEDDING, BODY)}),
}  # fmt: skip


def write_checkpoint(folder: Path, kind: str) -> None:
    """A checkpoint of a few kilobytes, and a header as long as it takes."""
    folder.mkdir(parents=True)
    architecture, files = KINDS[kind]
    model_type = "gemma2" if kind == "tied" else "llama"
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": model_type}))
    for file, names in files.items():
        save_file({name: torch.zeros(64, 16, dtype=torch.bfloat16) for name in names}, folder / file)
    if len(files) > 1:
        index = {"weight_map": {name: file for file, names in files.items() for name in names}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def main() -> None:
    """Plan, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each answer")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 16])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, LoopbackHub() as hub:
        for kind in KINDS:
            write_checkpoint(Path(temporary) / kind, kind)
        kinds = {f"{kind}/model-{n}": kind for n in range(options.models) for kind in [list(KINDS)[n % len(KINDS)]]}
        for name, kind in kinds.items():
            hub.add(name, Path(temporary) / kind, access="gated" if kind == "gated" else "public")
        hub.latency = options.latency
        environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "MODELS": " ".join(kinds), "FORMAT": "json"}
        for concurrency in options.concurrency:
            hub.log.clear()
            began, cpu = time.monotonic(), _cpu_of_children()
            done = subprocess.run(
                [sys.executable, str(ROOT / "entrypoint.py"), "plan", "--output", f"{temporary}/surveys"],
                env=environment | {"PLAN_CONCURRENCY": str(concurrency)},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            seconds, cpu = time.monotonic() - began, _cpu_of_children() - cpu
            planned = Counter(model["status"] for model in json.loads(done.stdout)["models"])
            took = f"{seconds:6.1f} s ({cpu:.1f} s computing)"
            print(f"{concurrency:>3} at once: {took}, {len(hub.log):,} requests, {dict(planned)}")
        models_of_a_kind = Counter(kinds.values())
        requests = Counter(_kind_asked_about(request.path, kinds) for request in hub.log if request.host == "hub")
        from_cdn = Counter(request.path.rsplit("/", 1)[1] for request in hub.log if request.host == "cdn")
        for kind, models in models_of_a_kind.items():
            print(f"{kind:>10}: {requests[kind] / models:4.1f} requests of the Hub a model")
        print(f"{'the CDN':>10}: {from_cdn.total() / options.models:4.1f} a model")


def _cpu_of_children() -> float:
    """Seconds that the processes which ended so far have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _kind_asked_about(path: str, kinds: dict[str, str]) -> str:
    names = map("/".join, pairwise(path.split("/")))
    return next((kinds[name] for name in names if name in kinds), path)


if __name__ == "__main__":
    main()
