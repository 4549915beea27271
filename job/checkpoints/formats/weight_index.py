"""The index of sharded weights: which file holds which tensor. Takes bytes and returns values; fetches nothing."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection

from job.checkpoints.formats.json_text import parse_unambiguous_object
from job.errors import CorruptCheckpoint

MAX_INDEX = 100_000_000
"""Bytes. The index of DeepSeek-V3, with 91,991 tensors, has 9 million."""

MAX_SHARDS = 2_000
"""Files that an index may name where each costs a request; the largest models have a few hundred files."""

NUMBERED = re.compile(r"(?P<stem>.+?)-(?P<number>\d{1,9})-of-(?P<total>\d{1,9})(?P<rest>(\.[^.]+)?\.[^./]+)")

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


def shard_file(folder: str, shard: str) -> str:
    """The name that a checkpoint has for a shard which an index in ``folder`` calls ``./x`` or ``a/../x``.

    It may lead out of the checkpoint, which has no file of such a name.
    """
    return posixpath.normpath(posixpath.join(folder, shard))


def numbered_set(shards: Collection[str]) -> set[str]:
    """The names of all shards of the sets that these belong to: of ``a-00002-of-00003.bin``, numbers 1 to 3.

    Nothing where these would be more than ``MAX_SHARDS``.
    """
    sets: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for found in filter(None, map(NUMBERED.fullmatch, shards)):
        sets[found["stem"], found["total"], found["rest"]].add(found["number"])
    if sum(int(total) for _, total, _ in sets) > MAX_SHARDS:
        return set()
    names: set[str] = set()
    for (stem, total, rest), numbers in sets.items():
        first, width = min(1, *map(int, numbers)), len(min(numbers))
        names |= {f"{stem}-{first + n:0{width}}-of-{total}{rest}" for n in range(int(total))}
    return names
