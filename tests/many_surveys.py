"""Manifests of many surveys, as real ones with another model, date and holes."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.checkpoints import planted, write_checkpoint
from tests.surveys import survey

WORDS = ("Qwen", "Llama", "gemma", "SmolLM", "Phi", "OLMo", "pythia", "Mistral", "Falcon", "granite")
FILES = (
    *("W.safetensors", "mu.safetensors", "gamma_centered.safetensors", "black_holes.safetensors"),
    *("tokens.parquet", "dead_tokens.json", "valid_ids.safetensors", "report.md", "report.html"),
)


def real_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a small survey."""
    checkpoint = write_checkpoint(folder / "model", planted(40, 8, [[3, 9, 21], [10, 11]]), n_tokens=40)
    return survey(checkpoint, folder / "surveys")


def commit_of(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()  # noqa: S324 - a name


def manifest_like(
    real: dict[str, Any],
    model: str,
    commit: str,
    holes: Sequence[Sequence[str]] = (),
    **fields: Any,
) -> dict[str, Any]:
    """A manifest of this model with these holes of tokens. ``fields`` replace those of the manifest."""
    n_tokens = sum(map(len, holes))
    made: dict[str, Any] = json.loads(json.dumps(real))
    made |= {"model": model, "commit": commit, "pages": {"report": f"{model}/{commit}/report.md"}, "revision": None}
    made["w_sha256"] = hashlib.sha256(f"{model} {commit}".encode(errors="surrogatepass")).hexdigest()
    made["statistics"] |= {
        "black_holes": len(holes),
        "black_hole_tokens": n_tokens,
        "share_of_rows": n_tokens / made["tensor"]["shape"][0],
        "largest": max(map(len, holes), default=0),
    }
    made["black_holes"] = [
        {
            "id": number,
            "population": len(tokens),
            "row_norm": 1.5,
            "tokens": [{"id": place, "piece": token, "text": token} for place, token in enumerate(tokens)],
        }
        for number, tokens in enumerate(holes, 1)
    ]
    made["artifacts"] = {
        name: entry | {"key": f"{model}/{commit}/{entry['key'].rpartition('/')[2]}"}
        for name, entry in made["artifacts"].items()
    }
    return made | fields


def many_manifests(real: dict[str, Any], n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The folders and manifests of ``n`` surveys of models in some families."""
    for number in range(n):
        word = WORDS[number % len(WORDS)]
        model = f"{word.lower()}-org/{word}{number // 100 + 1}-{number % 100}B"
        tokens = [f"<reserved_{word}_{place}>" for place in range(2 + number // 50)]
        month = number * 7 % 36
        yield (
            f"{model}/{commit_of(number)}",
            manifest_like(
                real,
                model,
                commit_of(number),
                [tokens, ["Ġunused", "Ġdead"]][: number % 3],
                hub_dates={
                    "created_at": f"{2023 + month // 12}-{month % 12 + 1:02}-{number % 28 + 1:02}T12:00:00+00:00",
                    "last_modified": None,
                },
            ),
        )


def as_bytes(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest).encode()


def write_surveys(output: Path, manifests: Iterator[tuple[str, dict[str, Any]]]) -> None:
    """Write manifests below a folder, and nothing else."""
    for folder, manifest in manifests:
        (output / folder).mkdir(parents=True, exist_ok=True)
        (output / folder / "manifest.json").write_bytes(as_bytes(manifest))
