"""Which set of weights of a repository is read, and why. Knows file names; opens no file.

A set is one file, an index with its shards, or numbered shards. The set that transformers would load comes first.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from job.checkpoints.file_names import ADAPTER_CONFIG, WEIGHT_FILES
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint, join_limited

WEIGHTS = re.compile(r"(?!adapter|mmproj|.*imatrix)(.+\.(safetensors|gguf)|pytorch_model.*\.bin)")
"""Names of files that hold a model's weights. Other .bin files are left by trainers: optimizer.bin, training_args.bin.
GGUF files count as weights but are chosen in ``gguf_files``: each is a whole model with its config."""

SHARD = re.compile(r"(?P<stem>.+?)-(?P<number>\d{1,9})-of-(?P<total>\d{1,9})(?P<rest>(\.[^.]+)?\.[^.]+)")

INDEX = re.compile(r"(?P<stem>[^.]+)\.(?P<ending>safetensors|bin)\.index(?P<variant>\.[^.]+)?\.json")

VARIANTS = (re.compile(r"model\.[^.]+\.safetensors"), re.compile(r"pytorch_model\.[^.]+\.bin"))

CONSOLIDATED = "consolidated.safetensors"


@dataclass(frozen=True)
class WeightSet:
    """Files of a repository that together are one model."""

    files: tuple[str, ...]
    """The files of the set; empty if an index has to be read to know them."""
    index: str | None
    reason: str
    """Why this set is read: a sentence without its full stop."""
    is_default: bool = False
    """Whether transformers loads this set by default."""
    folder: str = ""
    """The folder of the set, with a slash at its end; empty for the root."""
    others: tuple[str, ...] = ()
    """Weights that are not read: one file of each other set, and other folders with weights."""


def choose_weights(names: Collection[str], where: str) -> WeightSet | None:
    """The set to read; None if there is none, or if the repository holds an adapter.

    Raises:
        UnsupportedCheckpoint: there are several sets, and nothing says which one to read.
        CorruptCheckpoint: shards are missing.
    """
    by_folder: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        if name.isprintable():
            folder, slash, file = name.rpartition("/")
            by_folder[folder + slash].add(file)
    root = by_folder.pop("", set())
    subfolders = sorted(folder for folder, files in by_folder.items() if any(WEIGHTS.fullmatch(file) for file in files))
    chosen = _choose_in(root, where)
    if chosen is not None:
        return replace(chosen, others=(*chosen.others, *subfolders))
    if ADAPTER_CONFIG in root or not subfolders:
        return None
    if len(subfolders) > 1:
        raise UnsupportedCheckpoint(
            f"{where}: found weights in {join_limited(subfolders)} alone, expected one model; give the folder or the"
            " s3:// prefix of one of them"
        )
    (folder,) = subfolders
    chosen = _choose_in(by_folder[folder], f"{where}: {folder}")
    return chosen and replace(
        chosen,
        folder=folder,
        files=tuple(folder + file for file in chosen.files),
        index=chosen.index and folder + chosen.index,
        is_default=False,
        reason=f"{chosen.reason}, in the only folder with weights",
    )


def _choose_in(files: set[str], where: str) -> WeightSet | None:
    sets = _sets_among(files)
    chosen = _first_choice(files, sets, where)
    if chosen is None:
        return None
    name, why = chosen
    others = tuple(members[0] for other, members in sorted(sets.items()) if other != name)
    is_default = name in WEIGHT_FILES
    if name in files:
        return WeightSet((name,), None, f"{name} is {why}", is_default, others=others)
    if index := next((file for file in files if _set_of_index(file) == name), None):
        return WeightSet((), index, f"{index} is {why}", is_default, others=others)
    shards = _complete_set(sets[name], f"{where}: {name}")
    return WeightSet(shards, None, f"{shards[0]} is one of {len(shards):,} shards without an index", others=others)


def _sets_among(files: set[str]) -> Mapping[str, list[str]]:
    """The weight files by the name of their set, which is a file's name without its numbers."""
    sets: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        if WEIGHTS.fullmatch(file):
            shard = SHARD.fullmatch(file)
            sets[shard["stem"] + shard["rest"] if shard else file].append(file)
        elif name := _set_of_index(file):
            sets[name].append(file)
    return sets


def _set_of_index(file: str) -> str | None:
    index = INDEX.fullmatch(file)
    return f"{index['stem']}{index['variant'] or ''}.{index['ending']}" if index else None


def _first_choice(files: set[str], sets: Mapping[str, list[str]], where: str) -> tuple[str, str] | None:
    """The name of the set to read, and why."""
    loaded = [name for name in WEIGHT_FILES if name in sets]
    # A shard that is left of another set, without an index, does not hide a set that is whole.
    whole = [name for name in loaded if _may_be_whole(name, sets[name])]
    if loaded:
        return (whole or loaded)[0], "what transformers loads"
    for variants in VARIANTS:
        if found := [name for name in sets if variants.fullmatch(name)]:
            return _single(found, where), "the only variant, and there is no plain set"
    if ADAPTER_CONFIG in files:
        return None
    if CONSOLIDATED in sets:
        return CONSOLIDATED, "the only set in a known format"
    if found := [name for name in sets if name.endswith(".safetensors")]:
        return _single(found, where), "the only set of safetensors"
    return None


def _may_be_whole(name: str, files: Collection[str]) -> bool:
    """Whether a set is one file, has an index, or has all shards of a number."""
    return any(file == name or INDEX.fullmatch(file) for file in files) or bool(_complete_among(files))


def _single(found: list[str], where: str) -> str:
    if len(found) == 1:
        return found[0]
    raise UnsupportedCheckpoint(
        f"{where}: found {join_limited(found)}, expected one set of weights; give a checkpoint with one of them"
    )


def _complete_set(files: list[str], where: str) -> tuple[str, ...]:
    """The shards, checked by their numbers: none is missing."""
    complete = _complete_among(files)
    if len(complete) == 1:
        return tuple(complete[0].values())
    if complete:
        raise UnsupportedCheckpoint(
            f"{where}: found sets of {' and of '.join(str(len(shards)) for shards in complete)} shards, expected one"
            " set; give a checkpoint with one of them"
        )
    total, shards = max(_by_total(files).items(), key=lambda item: len(item[1]))
    missing = ", ".join(str(number) for number in islice(_missing_numbers(shards, total), 5))
    raise CorruptCheckpoint(
        f"{where}: found {len(shards):,} of {total:,} shards and no index, expected all; download the missing ones,"
        f" starting with number {missing}"
    )


def _by_total(files: Collection[str]) -> Mapping[int, dict[int, str]]:
    """The shards by their numbers, by the number of shards that their names promise."""
    by_total: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for file in files:
        if shard := SHARD.fullmatch(file):
            by_total[int(shard["total"])][int(shard["number"])] = file
    return by_total


def _complete_among(files: Collection[str]) -> list[dict[int, str]]:
    """The shards of each number of which none is missing."""
    return [shards for total, shards in _by_total(files).items() if next(_missing_numbers(shards, total), None) is None]


def _missing_numbers(shards: Mapping[int, str], total: int) -> Iterator[int]:
    """The numbers of missing shards, counted from 1, or from 0 if there is a shard 0."""
    first = 0 if 0 in shards else 1
    return (number for number in range(first, first + total) if number not in shards)
