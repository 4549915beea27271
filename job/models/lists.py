"""Reads lists of models from a line of text, a text file or a YAML file. An error names the bad entry and its line."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from job.errors import ConfigError, join_limited, without_credentials
from job.models.queries import KEYS, Entry, ModelQuery, build_query, is_query, parse_query
from job.models.references import ModelRef, parse_reference, with_options
from job.models.revisions import ModelRevisions, with_revisions

if TYPE_CHECKING:
    import yaml  # the functions import it themselves: most runs read no YAML

logger = logging.getLogger(__name__)

_OPTIONS: Final = ("revision", "tensor", "file", "note", "follow_base", "name")
"""The keys that an entry of a YAML list may have besides ``model``, each with a text. ``revisions`` has a list."""

_COMMENT: Final = re.compile(r"(^|\s)#.*")
"""A comment in a text file. A # inside of a name is part of it, as in YAML."""

_YAML_NULL: Final = "tag:yaml.org,2002:null"


def parse_line(text: str, where: str) -> list[Entry]:
    """References and queries separated by spaces, commas or new lines.

    Raises:
        ConfigError: an entry is neither a reference nor a query.
    """
    return [
        parse_entry(entry, f"{where}, line {number}")
        for number, line in enumerate(text.splitlines(), 1)
        for entry in line.replace(",", " ").split()
    ]


def read_list(path: Path) -> list[Entry]:
    """The entries of a file. A .yaml or .yml file holds YAML; any other holds one entry per line, and # comments.

    Raises:
        ConfigError: the file cannot be read, has no entry, or an entry is neither a reference nor a query.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"MODELS_FILE: {path} cannot be read ({error}), expected a text or YAML file; correct the path or the file"
        ) from error
    if path.suffix in (".yaml", ".yml"):
        entries = _parse_yaml(text, str(path))
    else:
        entries = [
            parse_entry(entry, f"{path}, line {number}")
            for number, line in enumerate(text.split("\n"), 1)
            if (entry := _COMMENT.sub("", line).strip())
        ]
    if not entries:
        raise ConfigError(f"{path}: found no entry, expected one or more models; add them, or do not give the file")
    return entries


def unique(entries: list[Entry]) -> list[Entry]:
    """The entries without repetitions, each at its first place."""
    return list(dict.fromkeys(entries))


def warn_of_shared_names(entries: Iterable[Entry]) -> None:
    """Warn of checkpoints from several places that are filed under one name: only an id tells them apart."""
    places: dict[str, list[str]] = {}
    for ref in (entry for entry in entries if isinstance(entry, ModelRef)):
        if (name := ref.local_name) and ref.location not in places.setdefault(name, []):
            places[name].append(ref.location)
    for name, locations in places.items():
        if len(locations) > 1:
            logger.warning(
                "local/%s: found %d checkpoints for this name (%s), expected one; give each a name of its own in a "
                "YAML list, by `name: …` beside `model`",
                name,
                len(locations),
                join_limited(locations),
            )


def _parse_yaml(text: str, where: str) -> list[Entry]:
    """The entries of a YAML list, or of a mapping whose only key is ``models``.

    Each entry is a text, or a mapping with ``model`` or ``query``.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where}: not YAML ({' '.join(str(error).split())}); correct the file") from error
    if isinstance(root, yaml.MappingNode):
        _check_keys(root, where)
        values = {str(key.value): value for key, value in root.value}
        if set(values) != {"models"}:
            raise ConfigError(f"{where}: found the keys {sorted(values)}, expected only 'models'; correct the file")
        root = values["models"]
    if not isinstance(root, yaml.SequenceNode):
        raise ConfigError(f"{where}: found no list, expected 'models:' and a list of references; correct the file")
    return [_yaml_entry(node, f"{where}, line {node.start_mark.line + 1}") for node in root.value]


def _check_keys(mapping: "yaml.MappingNode", where: str) -> None:
    """Check that a mapping has each of its keys once, because all but one value would be lost.

    Raises:
        ConfigError: a key is repeated.
    """
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise ConfigError(
                f"{where}: found the key {name!r:.80} in line {lines[name]} and again in line {line}, expected it "
                "once; join what they say, or remove one"
            )
        lines[name] = line


def _yaml_entry(node: "yaml.Node", where: str) -> Entry:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return parse_entry(node.value, where)
    fields: dict[str, str] = {}
    revisions: list[str] | None = None
    items: list[tuple[yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, where)
        if [key.value for key, _ in node.value] == ["query"]:
            return _yaml_query(node.value[0][1], where)
        items = [(key, value) for key, value in node.value if key.value != "revisions" or value.tag != _YAML_NULL]
        for key, value in items:
            if key.value == "revisions":
                revisions = _yaml_texts(value, f"{where}: 'revisions'")
            elif isinstance(value, yaml.ScalarNode):
                fields[str(key.value)] = "" if value.tag == _YAML_NULL else value.value
    n_fields = len(fields) + (revisions is not None)
    if "model" not in fields or not fields.keys() <= {"model", *_OPTIONS} or n_fields != len(items):
        raise ConfigError(
            f"{where}: found an entry with {sorted(fields) or 'no keys'}, expected a reference, or only 'query', or "
            f"'model' with any of {', '.join(_OPTIONS)}, where each value is a text, or with a list of revisions; "
            "correct the entry"
        )
    options = {name: fields[name] for name in _OPTIONS if fields.get(name)}
    ref = _parse_reference(fields["model"], where, **options)
    return ref if revisions is None else _revisions_of(ref, revisions, where)


def _yaml_texts(node: "yaml.Node", where: str) -> list[str]:
    """The texts of a YAML list of texts. A text stands for a list of one."""
    import yaml

    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(text, yaml.ScalarNode) and text.tag != _YAML_NULL for text in nodes):
        raise ConfigError(f'{where} is not a list of texts, expected such as ["step*", main]; correct the entry')
    return [text.value for text in nodes]


def _revisions_of(ref: ModelRef, patterns: list[str], where: str) -> ModelRevisions:
    try:
        return with_revisions(ref, patterns)
    except ValueError as error:
        raise ConfigError(f"{where}: {without_credentials(ref.location)!r}: {error}") from error


def _yaml_query(node: "yaml.Node", where: str) -> ModelQuery:
    """The query in a YAML mapping. Each value is one text; ``exclude`` may be a list. A null value is ignored."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{where}: 'query' is not a mapping, expected a mapping with any of {', '.join(KEYS)}; correct the entry"
        )
    fields: list[tuple[str, str]] = []
    for key, value in node.value:
        texts = value.value if key.value == "exclude" and isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(text, yaml.ScalarNode) for text in (key, *texts)):
            raise ConfigError(
                f"{where}: the query's {key.value!r:.80} is not a text, expected a text, or for 'exclude' a list of "
                "texts; correct the entry"
            )
        fields += [(key.value, text.value) for text in texts if text.tag != _YAML_NULL]
    try:
        query = build_query(fields)
    except ValueError as error:
        raise ConfigError(f"{where}: not a query: {error}") from error
    _check_keys(node, where)
    return query


def parse_entry(text: str, where: str) -> Entry:
    """The reference or query that the whole text stands for.

    Raises:
        ConfigError: it is neither a reference nor a query.
    """
    if not is_query(text):
        return _parse_reference(text, where)
    try:
        return parse_query(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {text!r} is not a query: {error}") from error


def _parse_reference(text: str, where: str, **options: str) -> ModelRef:
    """The reference that a text stands for, with its options from a list."""
    try:
        return with_options(parse_reference(text), **options)
    except ValueError as error:
        raise ConfigError(f"{where}: {without_credentials(text)!r} is not a model reference: {error}") from error
