"""The pinned list of a distributed run: its fields, and how ``runs/<run>/plan.json`` is written and read."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, get_args, get_type_hints

from job import __version__
from job.errors import ConfigError
from job.models.references import ModelRef
from job.store.json_file import to_json

PINNED_LIST_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class Assignment:
    """A model of the run, and the worker that surveys it."""

    ref: ModelRef
    """The reference, with a commit if its source has commits."""
    read_nbytes: int
    """The size of W in bytes; 0 if W was published or could not be found when the list was pinned."""
    worker: int


@dataclass(frozen=True)
class PinnedList:
    """The models of a run, each with its worker."""

    run: str
    workers: int
    list_sha256: str
    """The sha-256 of the list before it was resolved. It shows whether a run's name is used for another list."""
    pinned_at: str
    """The time as ISO 8601."""
    models: tuple[Assignment, ...]

    def share(self, worker: int) -> list[ModelRef]:
        """The models of one worker, in the order of the list."""
        return [model.ref for model in self.models if model.worker == worker]


def pinned_list_key(run: str) -> str:
    return f"runs/{run}/plan.json"


def pinned_list_as_bytes(pinned: PinnedList) -> bytes:
    """The pinned list as JSON. A model's entry has only the options that are set."""
    return to_json(
        {
            "schema_version": PINNED_LIST_SCHEMA_VERSION,
            "tool": {"name": "black-hole-survey", "version": __version__},
            "run": pinned.run,
            "workers": pinned.workers,
            "list_sha256": pinned.list_sha256,
            "pinned_at": pinned.pinned_at,
            "models": [
                {
                    "model": str(model.ref),
                    "worker": model.worker,
                    "read_nbytes": model.read_nbytes,
                    "ref": {name: value for name, value in asdict(model.ref).items() if value not in (None, False, ())},
                }
                for model in pinned.models
            ],
        }
    )


def parse_pinned_list(content: bytes, url: str) -> PinnedList:
    """The pinned list that this tool, or an earlier version of it, wrote at ``url``.

    Raises:
        ConfigError: the content is not a pinned list of this schema.
    """
    try:
        document = json.loads(content)
        if document["schema_version"] != PINNED_LIST_SCHEMA_VERSION:
            raise ValueError(f"schema_version is {document['schema_version']}")
        workers = _whole_number(document["workers"])
        models = tuple(
            Assignment(_parse_ref(model["ref"]), _whole_number(model["read_nbytes"]), _whole_number(model["worker"]))
            for model in document["models"]
        )
        if any(model.worker >= workers for model in models):
            raise ValueError(f"the worker of a model is not below {workers}")
        return PinnedList(
            str(document["run"]), workers, str(document["list_sha256"]), str(document["pinned_at"]), models
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{url}: found {type(error).__name__} {error}, expected a pinned list of schema "
            f"{PINNED_LIST_SCHEMA_VERSION}; choose another RUN"
        ) from error


def _whole_number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.80} is not a whole number")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{value!r:.80} is not a list of texts")
    return tuple(value)


def _parse_ref(values: dict[str, Any]) -> ModelRef:
    if values.get("source") == "mirror":  # the name of this source in an earlier version
        values = values | {"source": "http"}
    if "revisions" in values:
        values = values | {"revisions": _texts(values["revisions"])}
    types = get_type_hints(ModelRef) | {"revisions": tuple}
    names: Iterable[str] = (field.name for field in fields(ModelRef))
    if not values.keys() <= set(names):
        raise ValueError(f"{sorted(values.keys())!r:.200} are not all fields of a reference")
    for name, value in values.items():
        allowed = get_args(types[name]) or (types[name],)
        if value not in allowed and not any(isinstance(value, kind) for kind in allowed if isinstance(kind, type)):
            raise ValueError(f"{name} is {value!r:.80}")
    return ModelRef(**values)
