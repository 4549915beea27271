"""The pinned list of a distributed run, ``runs/<run>/plan.json``: where it is filed, what it says, how it is read."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, get_args, get_type_hints

from job import __version__
from job.errors import ConfigError
from job.models.references import ModelRef
from job.store.json_file import to_json

PLAN_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True)
class Assignment:
    """A model of the run, pinned where its source has commits, and the worker that surveys it."""

    ref: ModelRef
    read_nbytes: int
    """Of W, as far as headers told when the list was pinned; 0 where it is published, or cannot be surveyed."""
    worker: int


@dataclass(frozen=True)
class PinnedList:
    """Who surveys what in one run."""

    run: str
    workers: int
    list_sha256: str
    """Of the list as it was given, so that a run's name is not used for another list."""
    pinned_at: str
    """The time, as ISO 8601 has it."""
    models: tuple[Assignment, ...]

    def share(self, worker: int) -> list[ModelRef]:
        """The models of one worker, in the list's order."""
        return [model.ref for model in self.models if model.worker == worker]


def pinned_list_key(run: str) -> str:
    return f"runs/{run}/plan.json"


def pinned_list_as_bytes(pinned: PinnedList) -> bytes:
    """The plan as JSON; of a model's options, those that were given."""
    return to_json(
        {
            "schema_version": PLAN_SCHEMA_VERSION,
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
                    "ref": {name: value for name, value in asdict(model.ref).items() if value not in (None, False)},
                }
                for model in pinned.models
            ],
        }
    )


def parse_pinned_list(content: bytes, url: str) -> PinnedList:
    """The plan that some version of this tool wrote at ``url``.

    Raises:
        ConfigError: it is no plan of today's schema.
    """
    try:
        plan = json.loads(content)
        if plan["schema_version"] != PLAN_SCHEMA_VERSION:
            raise ValueError(f"schema_version is {plan['schema_version']}")
        workers = _whole(plan["workers"])
        models = tuple(
            Assignment(_ref(model["ref"]), _whole(model["read_nbytes"]), _whole(model["worker"]))
            for model in plan["models"]
        )
        if any(model.worker >= workers for model in models):
            raise ValueError(f"a model's worker is not one of {workers}")
        return PinnedList(str(plan["run"]), workers, str(plan["list_sha256"]), str(plan["pinned_at"]), models)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{url}: {type(error).__name__} {error}, expected a plan of schema {PLAN_SCHEMA_VERSION}; "
            "choose another RUN"
        ) from error


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.80} is not a whole number")
    return value


def _ref(values: dict[str, Any]) -> ModelRef:
    values = values | {"source": "http"} if values.get("source") == "mirror" else values  # an earlier version's word
    kinds = get_type_hints(ModelRef)
    names: Iterable[str] = (field.name for field in fields(ModelRef))
    if not values.keys() <= set(names):
        raise ValueError(f"{sorted(values.keys())!r:.200} are not all of a reference")
    for name, value in values.items():
        allowed = get_args(kinds[name]) or (kinds[name],)
        if value not in allowed and not any(isinstance(value, kind) for kind in allowed if isinstance(kind, type)):
            raise ValueError(f"{name} is {value!r:.80}")
    return ModelRef(**values)
