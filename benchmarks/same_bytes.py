"""Whether two versions of the job publish the same bytes, and end with the same exit status, for the same checkpoints.

    .venv/bin/python -m benchmarks.same_bytes BEFORE            a commit, and the working tree
    .venv/bin/python -m benchmarks.same_bytes BEFORE AFTER      two commits
    .venv/bin/python -m benchmarks.same_bytes BEFORE --only S3  … in the scenarios with this in their title

Both versions run side by side, as processes, over the scenarios of benchmarks/scenarios.py. RULES says what may differ.
The exit status is 0 if nothing else does, else 1. It takes about three minutes on 2 cores that have nothing else to do.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from benchmarks.scenarios import SOUND, Bench, Scenario

ROOT: Final = Path(__file__).parents[1]
MAX_SHOWN: Final = 60


@dataclass(frozen=True)
class Rule:
    """What may differ between the two versions."""

    file: str
    """A shell pattern of the file's name."""
    field: str
    """A shell pattern of a field of that file."""
    allows: Literal["anything", "other words", "nothing"]
    """``other words``: a text in place of a text; it is listed, and does no harm."""


RULES: Final = (
    #    file              field                    what AFTER may have in its place
    Rule("*.json",         "seconds.*",             "anything"),
    Rule("*.json",         "activity_seconds.*",    "anything"),
    Rule("*.json",         "published_at",          "anything"),
    Rule("*.json",         "previous.published_at", "anything"),
    Rule("*.json",         "tool.version",          "anything"),
    Rule("*.json",         "checkpoint.bytes_fetched", "anything"),  # small files were fetched several times
    Rule("*.json",         "tokenizer.files.*",     "nothing"),  # of files beside tokenizer.json that are not read
    Rule("plan.json",      "pinned_at",             "anything"),
    Rule("plan.json",      "list_sha256",           "anything"),  # of the list, in which a web server was a "mirror"
    Rule("plan.json",      "models.*.ref.source",   "anything"),
    Rule("report.*",       "*",                     "anything"),  # made of the manifest, in whatever words
    Rule("*.safetensors",  "metadata version",      "anything"),
    Rule("W.safetensors",  "metadata w_sha256",     "nothing"),
    Rule("*.json",         "warnings.*",            "other words"),
    Rule("*.json",         "tensor.reason",         "other words"),
    Rule("*.json",         "tensor.tie_evidence",   "other words"),
    Rule("*.json",         "tokenizer.unusable",    "other words"),
    Rule("how it ended",   "*: message",            "other words"),
)  # fmt: skip
"""All else has to be equal: every tensor byte for byte; every other field of JSON and of metadata; the names of files;
exit statuses, kinds of errors, how many models ended how. The size and the sha-256 that a manifest states of a file
have to be true, and that file is compared by itself."""

ENDING: Final = "how it ended"
"""Stands where a file's name does, for what a process said of a checkpoint."""
THE_RUN: Final = "(the run)"
"""Stands where a checkpoint's name does, for what is of no single one: exit statuses, the plan of several workers."""

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | None"
Fields: TypeAlias = dict[str, str | bytes]
Facts: TypeAlias = dict[tuple[str, str], Fields]
"""What a version did: the fields of each file, by its checkpoint's name and its own."""


@dataclass(frozen=True)
class Difference:
    """A field that is not the same."""

    checkpoint: str
    file: str
    field: str
    before: str | bytes | None
    after: str | bytes | None

    @property
    def verdict(self) -> Literal["allowed", "reworded", "different"]:
        """What RULES says of it."""
        name = self.file.rpartition("/")[2]
        allowed = {
            rule.allows for rule in RULES if fnmatchcase(name, rule.file) and fnmatchcase(self.field, rule.field)
        }
        if "anything" in allowed or ("nothing" in allowed and self.after is None):
            return "allowed"
        return "reworded" if "other words" in allowed and None not in (self.before, self.after) else "different"

    def __str__(self) -> str:
        if isinstance(self.before, bytes) and isinstance(self.after, bytes) and len(self.before) == len(self.after):
            unequal = np.frombuffer(self.before, np.uint8) != np.frombuffer(self.after, np.uint8)
            return f"{self.file}: {self.field}: {np.count_nonzero(unequal):,} of {len(unequal):,} bytes differ"
        values = ("absent" if value is None else f"{value!r:.100}" for value in (self.before, self.after))
        return f"{self.file}: {self.field}: {' → '.join(values)}"


def compare(before: Facts, after: Facts) -> Iterator[Difference]:
    """Every field that the two versions do not have alike."""
    for checkpoint, file in sorted(before.keys() | after.keys()):
        old, new = (facts.get((checkpoint, file), {}) for facts in (before, after))
        names = [name for name in old | new if old.get(name) != new.get(name)]
        if not old or not new:
            names = names[:1]
        elif len(names) > 1 and names[0] == "file":
            names = names[1:]  # they say why
        yield from (Difference(checkpoint, file, name, old.get(name), new.get(name)) for name in names)


def fields_of(key: str, published: Mapping[str, bytes]) -> Fields:
    """A published file, taken apart as far as RULES looks into it; first of all, that it is there."""
    content = published[key]
    whole: Fields = {"file": f"sha-256 {hashlib.sha256(content).hexdigest()}"}
    match Path(key).suffix:
        case ".json":  # as JSON: how it is written does not count
            return {"file": "there", **dict(_leaves(_with_true_digests(json.loads(content), published)))}
        case ".safetensors":
            return whole | _tensors_and_metadata(content)
    return whole


def _leaves(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Each number and text of a JSON document, by where it stands."""
    if value and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _with_true_digests(document: Json, published: Mapping[str, bytes]) -> Json:
    """The manifest with "true" in place of each size and sha-256 that is that of the file it is stated of."""
    artifacts = document.get("artifacts") if isinstance(document, dict) else None
    for entry in artifacts.values() if isinstance(artifacts, dict) else ():
        if isinstance(entry, dict) and (content := published.get(str(entry.get("key")))) is not None:
            found: dict[str, Json] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            entry.update({name: "true" for name, value in found.items() if entry.get(name) == value})
    return document


def _tensors_and_metadata(content: bytes) -> Fields:
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    fields: Fields = {f"metadata {name}": value for name, value in header.pop("__metadata__", {}).items()}
    fields["layout"] = json.dumps(header)
    for name, tensor in header.items():
        first, last = tensor["data_offsets"]
        fields[f"tensor {name}"] = content[begin + first : begin + last]
    return fields


def run_scenario(bench: Bench, scenario: Scenario, trees: Sequence[Path]) -> list[Facts]:
    """What each version does. They take each step at the same time, and publish to places of their own."""
    facts: list[Facts] = [defaultdict(dict) for _ in trees]
    works = [Path(tempfile.mkdtemp(dir=bench.folder)) for _ in trees]
    outputs = [bench.output(scenario, work) for work in works]
    with ThreadPoolExecutor(len(trees)) as pool:
        for number, step in enumerate(scenario.steps, 1):
            if step.first:
                step.first()
            jobs = [
                pool.submit(_run_job, bench, scenario, step.settings, tree, work)
                for tree, work in zip(trees, works, strict=True)
            ]
            for known, output, job in zip(facts, outputs, jobs, strict=True):
                _note_ending(known, scenario, f"step {number}", job.result(), output)
    for known, output, work in zip(facts, outputs, works, strict=True):
        published = bench.published(output)
        for key in published:
            place = key.split("/")
            known[place[1] if place[0] in ("local", "org") else THE_RUN, key] = fields_of(key, published)
        shutil.rmtree(work)
    return facts


def _run_job(
    bench: Bench, scenario: Scenario, settings: Mapping[str, str], tree: Path, work: Path
) -> subprocess.CompletedProcess[str]:
    (work / "scratch").mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(work), "SCRATCH": str(work / "scratch")}
    environment |= {**bench.environment, **settings}
    arguments = [entry for entry in scenario.listed if isinstance(entry, str)]
    if len(arguments) < len(scenario.listed):  # what is said of a model beside its name has no place among arguments
        entries = [entry if isinstance(entry, dict) else {"model": entry} for entry in scenario.listed]
        (work / "models.yaml").write_text(json.dumps(entries))
        environment["MODELS_FILE"], arguments = str(work / "models.yaml"), []
    command = [sys.executable, str(tree / "entrypoint.py"), *arguments, "--output", bench.output(scenario, work)]
    return subprocess.run(
        command, env=environment, cwd=work, capture_output=True, encoding="utf-8", errors="replace", check=False
    )


def _note_ending(
    facts: Facts, scenario: Scenario, step: str, done: subprocess.CompletedProcess[str], output: str
) -> None:
    """Add the exit status, how many models fared how, and the kind and message of each error."""
    counts = re.findall(r"^\d[\d,]* (?:surveyed|same content|already|passed|failed).*$", done.stdout, re.MULTILINE)
    facts[THE_RUN, ENDING] |= {
        f"{step}: exit status": str(done.returncode),
        f"{step}: models": " ".join(counts),
        f"{step}: bug": done.stderr.splitlines()[-1] if "Traceback" in done.stderr else "none",
    }
    longest_first = sorted(scenario.references, key=len, reverse=True)
    for kind, message in re.findall(r"^((?:Passed over  )?[A-Z]\w+)  (.+)$", done.stdout, re.MULTILINE):
        if kind not in ("Warning", "Note"):  # Note: in earlier versions
            reference = next((known for known in longest_first if message.startswith(known)), None)
            name = scenario.references[reference] if reference else THE_RUN
            facts[name, ENDING] |= {f"{step}: kind": kind, f"{step}: message": message.replace(output, "OUTPUT")}


def surprises(scenario: Scenario, facts: Facts) -> Iterator[str]:
    """The checkpoints that a version did not treat as it should: what both fail at shows nothing."""
    surveyed = {name for name, file in facts if file.endswith("/manifest.json")}
    refused = {name for name, file in facts if file == ENDING} - {THE_RUN}
    for name in scenario.references.values() if scenario.sink != "no bucket" else ():
        if (name in surveyed, name in refused) != (name in SOUND, name not in SOUND):
            yield name
    if any(name.endswith("bug") and value != "none" for name, value in facts[THE_RUN, ENDING].items()):
        yield THE_RUN


class Table:
    """How each checkpoint of each scenario compares."""

    def __init__(self) -> None:
        self.columns: list[dict[str, str]] = []
        self.different: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        """By the file's name and the field."""
        self.rewordings: Counter[tuple[str, str]] = Counter()
        self.files = 0

    def add(self, scenario: Scenario, before: Facts, after: Facts) -> str:
        """Compare, and tell how it went in one line."""
        column = {name: "same" for name, _ in before.keys() | after.keys()}
        for difference in compare(before, after):
            if difference.verdict == "different":
                column[difference.checkpoint] = "DIFF"
                kind = difference.file.rpartition("/")[2], re.sub(r"\d+", "N", difference.field)
                self.different[kind].append(f"{scenario.title}, {difference.checkpoint}: {difference}")
            elif difference.verdict == "reworded":
                if column[difference.checkpoint] == "same":
                    column[difference.checkpoint] = "text"
                if not difference.file.endswith(("report.md", "report.html")):  # its texts are the manifest's
                    self.rewordings[str(difference.before), str(difference.after)] += 1
        for version, facts in (("BEFORE", before), ("AFTER", after)):
            for name in surprises(scenario, facts):
                column[name] = "????"
                self.different[ENDING, version].append(
                    f"{scenario.title}, {name}: not surveyed or refused as it should be"
                )
        self.columns.append(column)
        self.files += sum(file != ENDING for _, file in before.keys() | after.keys())
        statuses = [value for name, value in before[THE_RUN, ENDING].items() if name.endswith("exit status")]
        found = Counter(column.values())
        return f"exit {', '.join(map(str, statuses)):<6} {', '.join(f'{n} {word}' for word, n in found.items())}"

    def print(self, versions: str) -> None:
        """The table, what differs, what is worded otherwise, and all of it in one line."""
        names = dict.fromkeys(name for column in self.columns for name in column)
        print(f"\n{'':<18}" + "".join(f"{number:>5}" for number in range(1, len(self.columns) + 1)))
        for name in sorted(names, key=lambda name: (name == THE_RUN, name not in SOUND, name)):
            print(f"{name:<18}" + "".join(f"{column.get(name, '·'):>5}" for column in self.columns))
        kinds = [
            f"{len(found):>5} × {file}: {field}\n          {found[0]}"
            for (file, field), found in self.different.items()
        ]
        texts = [f"{n:>5} × {before}\n        → {after}" for (before, after), n in self.rewordings.items()]
        for title, lines in (("Different, each with its first case", kinds), ("Worded otherwise", texts)):
            for line in [f"\n{title}:", *lines[:MAX_SHOWN]] if lines else []:
                print(line)
            if len(lines) > MAX_SHOWN:
                print(f"      … and {len(lines) - MAX_SHOWN:,} more")
        print(
            f"\n{versions}: {'DIFFERENT' if self.different else 'the same'}: {sum(map(len, self.columns)):,} "
            f"comparisons in {len(self.columns)} scenarios, {self.files:,} files; "
            f"{sum(map(len, self.different.values())):,} differences, "
            f"{len(self.rewordings):,} texts worded otherwise"
        )


def _checked_out(commit: str, folder: Path, stack: ExitStack) -> Path:
    """A commit's files, in a git worktree that is gone with the stack."""
    add = ["git", "worktree", "add", "--quiet", "--detach", str(folder), commit]
    if subprocess.run(add, cwd=ROOT, check=False).returncode:
        sys.exit(f"{commit}: git cannot check it out, expected a commit; see git log")
    stack.callback(subprocess.run, ["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)
    return folder


def main() -> int:
    """Compare, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_bytes", description=__doc__.partition("\n")[0])
    parser.add_argument("before", metavar="BEFORE", help="a commit")
    parser.add_argument("after", metavar="AFTER", nargs="?", help="a commit; without it, the working tree")
    parser.add_argument("--only", metavar="TEXT", default="", help="only the scenarios with this in their title")
    options = parser.parse_args()
    table = Table()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="same-bytes-")))
        after = _checked_out(options.after, folder / "after", stack) if options.after else ROOT
        trees = (_checked_out(options.before, folder / "before", stack), after)
        bench = Bench(folder, stack)
        scenarios = (scenario for scenario in bench.scenarios() if options.only in scenario.title)
        for number, scenario in enumerate(scenarios, 1):
            began = time.monotonic()
            before_facts, after_facts = run_scenario(bench, scenario, trees)
            told = table.add(scenario, before_facts, after_facts)
            print(f"{number:>2}  {scenario.title:<42} {time.monotonic() - began:5.1f} s  {told}", flush=True)
    if not table.columns:
        sys.exit(f"--only: {options.only!r} is in no scenario's title, expected a part of one such as 'the Hub'")
    table.print(f"{options.before} and {options.after or 'the working tree'}")
    return 1 if table.different else 0


if __name__ == "__main__":
    sys.exit(main())
