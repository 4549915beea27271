"""The index of sharded weights: which file holds which tensor. Takes bytes and returns values; fetches nothing."""

import re

from job.checkpoints.formats.json_text import parse_unambiguous_object
from job.errors import CorruptCheckpoint

MAX_INDEX = 100_000_000
"""Bytes. The index of DeepSeek-V3, with 91,991 tensors, has 9 million."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON can write one as an escape, but no UTF-8 text can hold it, so a name with one could not be written anywhere."""


def parse_index(text: bytes, where: str) -> dict[str, str]:
    """The shard of each tensor, by the tensor's name, as the index claims.

    Raises:
        CorruptCheckpoint: the text is not an index, or has two shards for one name.
    """
    weight_map = parse_unambiguous_object(text, where).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptCheckpoint(f"{where}: found no weight_map of tensor names to files; get the file again")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or LONE_SURROGATE.search(name):
            raise CorruptCheckpoint(
                f"{where}: found {name!r:.200} mapped to {shard!r:.80}, expected a tensor's name and a file's; get the"
                " file again"
            )
    return weight_map
