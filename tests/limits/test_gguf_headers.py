"""GGUF headers that are made to cost much time or memory."""

import time
import tracemalloc

import pytest

from job.checkpoints.formats.gguf_header import parse_gguf_header
from tests.ggufs import header, text, u32, u64

COSTLY = {
    "texts": (9, u32(8) + u64(1 << 20), u64(0) * (1 << 20)),
    "arrays": (9, u32(9) + u64(10_000), (u32(8) + u64(100) + bytes(800)) * 10_000),
}


@pytest.mark.parametrize(("kind", "head", "values"), COSTLY.values(), ids=COSTLY)
def test_a_header_of_eight_megabytes_costs_little_time_and_memory(kind: int, head: bytes, values: bytes) -> None:
    content = header(0, 1, text("k") + u32(kind) + head + values)
    tracemalloc.start()
    began = time.process_time()
    assert parse_gguf_header(content, "a.gguf", len(content), "here: a.gguf").metadata == {}
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 20
    assert peak < 1_000_000
