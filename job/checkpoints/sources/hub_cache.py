"""A checkpoint in the Hub's cache on this machine's disk. It knows the layout of the cache, and asks no server.

The layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from job.checkpoints.checkpoint import Checkpoint, StoredFile, hub_file
from job.checkpoints.sources.folder import (
    DiskFile,
    list_files,
    local_fill,
    os_errors_translated,
    stored_file,
    stored_files,
)
from job.errors import CorruptCheckpoint, ModelUnavailable
from job.models.revisions import NamedCommit, is_ref_name

_REPOSITORY = re.compile(r"models--(?P<organisation>\w[\w.-]*?)--(?P<name>\w[\w.-]*)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A blob's name: the git id of a small file, the sha-256 of a large one. The Hub lists the same ids."""


def is_in_hub_cache(path: Path) -> bool:
    """Whether a folder is that of a model in the Hub's cache, or of a snapshot of a model."""
    return _parse_path(_absolute(path)) is not None


def open_hub_cache(path: Path, revision: str | None) -> Checkpoint:
    """The checkpoint that the Hub's cache holds at a revision.

    Without a revision, it is the snapshot that ``path`` is, or else main, or else the only snapshot. It has the Hub's
    own name, commit and object ids, and so the same content identity as on the Hub.

    Raises:
        ModelUnavailable: the folder does not exist, or it holds no such revision.
        CorruptCheckpoint: a branch's file in the cache holds no commit.
        TransientError: the disk failed.
    """
    repository, repo_id, commit = _checked_path(path)
    with os_errors_translated(repository):
        if commit is None:
            commit = _find_commit(repository, repo_id, revision)
        root = repository / "snapshots" / commit
        if not root.is_dir():
            raise ModelUnavailable(
                f"{root}: found nothing, expected a snapshot; {_download_advice(repo_id, revision or commit)}"
            )
        blobs = (repository / "blobs").resolve()
        on_disk, set_aside = list_files(root, [root.resolve(), blobs])
        files, unreadable = stored_files(on_disk, partial(_blob, blobs=blobs))
    return Checkpoint(
        repo_id=repo_id,
        revision=revision,
        commit=commit,
        source=str(root),
        files=files,
        fill=local_fill(on_disk),
        local_paths={name: on_disk[name].path for name in files},
        set_aside={
            name: f"{reason}; {_download_advice(repo_id, commit)}" for name, reason in (set_aside | unreadable).items()
        },
    )


def cached_revisions(path: Path) -> list[NamedCommit]:
    """The branches, tags and pull requests that the Hub's cache knows of a repository. It does not tell a tag from a
    branch.

    Raises:
        ModelUnavailable: the folder is not one of the cache.
        TransientError: the disk failed.
    """
    refs = _checked_path(path)[0] / "refs"
    with os_errors_translated(refs):
        files = [file for file in sorted(refs.rglob("*")) if file.is_file() and not file.is_symlink()]
        commits = {file: file.read_text("utf-8", "replace").strip() for file in files}
    names = {file: file.relative_to(refs).as_posix() for file in files}
    return [
        NamedCommit(
            names[file], names[file] if names[file].startswith("refs/") else f"refs/heads/{names[file]}", commit
        )
        for file, commit in commits.items()
        if _COMMIT.fullmatch(commit) and is_ref_name(names[file])
    ]


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link out of the cache


def _checked_path(path: Path) -> tuple[Path, str, str | None]:
    """As ``_parse_path``.

    Raises:
        ModelUnavailable: the path is not one of the cache.
    """
    found = _parse_path(_absolute(path))
    if found is None:
        raise ModelUnavailable(
            f"{path}: not a folder of the Hub's cache, expected models--org--name; check the reference"
        )
    return found


def _parse_path(path: Path) -> tuple[Path, str, str | None] | None:
    """The repository's folder, its name on the Hub, and the commit if the path is that of a snapshot."""
    commit = path.name if path.parent.name == "snapshots" and _COMMIT.fullmatch(path.name) else None
    repository = path.parents[1] if commit else path
    named = _REPOSITORY.fullmatch(repository.name)
    if named is None or not (repository / "snapshots").is_dir():
        return None
    return repository, f"{named['organisation']}/{named['name']}", commit


def _find_commit(repository: Path, repo_id: str, revision: str | None) -> str:
    """The commit of a branch or tag, or the commit itself, as far as the cache knows it."""
    refs = (repository / "refs").resolve()
    named = (refs / (revision or "main")).resolve()
    if named.is_relative_to(refs) and named.is_file():
        commit = named.read_text("utf-8", "replace").strip()
        if not _COMMIT.fullmatch(commit):
            raise CorruptCheckpoint(
                f"{named}: found {commit!r:.80}, expected a commit of 40 hexadecimal digits; "
                f"{_download_advice(repo_id, revision)}"
            )
        return commit
    snapshots = sorted(path.name for path in (repository / "snapshots").iterdir() if _COMMIT.fullmatch(path.name))
    if revision in snapshots:
        return revision
    if revision is None and len(snapshots) == 1:
        return snapshots[0]
    held = ", ".join(snapshots[:5]) + (" …" if len(snapshots) > 5 else "") if snapshots else "no snapshot"
    raise ModelUnavailable(
        f"{repository}: found {held}, expected {revision or 'main'}; name one of them after an @, or "
        f"{_download_advice(repo_id, revision)}"
    )


def _blob(name: str, file: DiskFile, blobs: Path) -> StoredFile:
    """A file with its blob's name as its id. If the cache was made without links, it holds copies, whose names say
    nothing of their ids."""
    target = Path(os.path.realpath(file.path))
    if target.parent == blobs and _OBJECT_ID.fullmatch(target.name):
        return replace(hub_file(file.size, target.name), id_from="name")
    return stored_file(name, file)


def _download_advice(repo_id: str, revision: str | None) -> str:
    return f"download it again: hf download {repo_id}" + (f" --revision {revision}" if revision else "")
