"""A checkpoint in the Hub's cache on this machine's disk. It knows how the cache is laid out, and asks no server.

The layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import os
import re
from pathlib import Path

from job.checkpoints.checkpoint import Checkpoint, StoredFile
from job.checkpoints.sources.folder import DiskFile, content_id, disk_files, fetch_from, refusals
from job.errors import CorruptCheckpoint, ModelUnavailable

_REPOSITORY = re.compile(r"models--(?P<organisation>\w[\w.-]*?)--(?P<name>\w[\w.-]*)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""What a blob is named by: git's id of a small file, the sha-256 of a large one. The Hub lists the same ids."""


def is_in_hub_cache(path: Path) -> bool:
    """Whether a folder is a model's in the Hub's cache, or a snapshot of one."""
    return _split(_absolute(path)) is not None


def open_hub_cache(path: Path, revision: str | None) -> Checkpoint:
    """The checkpoint that the Hub's cache holds at a revision (None: the snapshot that ``path`` is, or main, or the
    only one there is), with the Hub's own name, commit and object ids, and so with the same content identity.

    Raises:
        ModelUnavailable: there is no such folder, or it holds no such revision.
        CorruptCheckpoint: the snapshot is incomplete.
        TransientError: the disk failed.
    """
    found = _split(_absolute(path))
    if found is None:
        raise ModelUnavailable(f"{path}: not a folder of the Hub's cache, models--org--name was expected; check it")
    repository, repo_id, commit = found
    with refusals(repository):
        if commit is None:
            commit = _commit(repository, repo_id, revision)
        root = repository / "snapshots" / commit
        if not root.is_dir():
            raise ModelUnavailable(
                f"{root}: nothing there, a snapshot was expected; {_download(repo_id, revision or commit)}"
            )
        blobs = (repository / "blobs").resolve()
        _refuse_dangling_links(root, repo_id, commit)
        on_disk = disk_files(root, [root.resolve(), blobs])
        files = {name: StoredFile(file.size, _object_id(name, file, blobs)) for name, file in on_disk.items()}
    return Checkpoint(
        repo_id=repo_id,
        revision=revision,
        commit=commit,
        source=str(root),
        files=files,
        fetch=fetch_from(files, on_disk, str(root)),
        local_paths={name: file.path for name, file in on_disk.items()},
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link out of the cache


def _split(path: Path) -> tuple[Path, str, str | None] | None:
    """The folder of the repository, its name on the Hub, and the commit if the path is that of a snapshot."""
    commit = path.name if path.parent.name == "snapshots" and _COMMIT.fullmatch(path.name) else None
    repository = path.parents[1] if commit else path
    named = _REPOSITORY.fullmatch(repository.name)
    if named is None or not (repository / "snapshots").is_dir():
        return None
    return repository, f"{named['organisation']}/{named['name']}", commit


def _commit(repository: Path, repo_id: str, revision: str | None) -> str:
    """The commit that a branch, a tag or a commit's own id stands for, as far as the cache knows."""
    refs = (repository / "refs").resolve()
    named = (refs / (revision or "main")).resolve()
    if named.is_relative_to(refs) and named.is_file():
        commit = named.read_text("utf-8", "replace").strip()
        if not _COMMIT.fullmatch(commit):
            raise CorruptCheckpoint(
                f"{named}: holds {commit!r:.80}, a commit of 40 hexadecimal characters was expected; "
                f"{_download(repo_id, revision)}"
            )
        return commit
    snapshots = sorted(path.name for path in (repository / "snapshots").iterdir() if _COMMIT.fullmatch(path.name))
    if revision in snapshots:
        return revision
    if revision is None and len(snapshots) == 1:
        return snapshots[0]
    held = ", ".join(snapshots[:5]) + (" …" if len(snapshots) > 5 else "") if snapshots else "no snapshot"
    raise ModelUnavailable(
        f"{repository}: holds {held}, {revision or 'main'} was expected; name one of them after an @, or "
        f"{_download(repo_id, revision)}"
    )


def _refuse_dangling_links(root: Path, repo_id: str, commit: str) -> None:
    missing = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.exists())
    if missing:
        raise CorruptCheckpoint(
            f"{root}: the blobs of {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''} are gone, all of the "
            f"snapshot was expected; {_download(repo_id, commit)}"
        )


def _object_id(name: str, file: DiskFile, blobs: Path) -> str:
    """The blob's name; where links were not to be had, the cache holds copies, which say nothing of their ids."""
    target = Path(os.path.realpath(file.path))
    return target.name if target.parent == blobs and _OBJECT_ID.fullmatch(target.name) else content_id(name, file)


def _download(repo_id: str, revision: str | None) -> str:
    return f"download it again: hf download {repo_id}" + (f" --revision {revision}" if revision else "")
