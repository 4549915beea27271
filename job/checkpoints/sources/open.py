"""Which source a reference is read from. Imports a source when it is read from: some of their clients take a quarter of
a second."""

from dataclasses import replace

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.sources.access import Access
from job.checkpoints.sources.folder import open_folder
from job.checkpoints.sources.hub_cache import is_in_hub_cache, open_hub_cache
from job.checkpoints.sources.revisions import refuse_pattern
from job.models.references import ModelRef, has_wildcard


def open_checkpoint(ref: ModelRef, access: Access) -> Checkpoint:
    """The checkpoint that a reference names, pinned to the commit that it has now.

    Raises:
        SurveyError: the checkpoint cannot be opened, for a reason that its source knows.
    """
    if ref.revision and has_wildcard(ref.revision):
        refuse_pattern(ref, access)
    checkpoint = replace(_open(ref, access), revisions=ref.revisions)
    return replace(checkpoint, repo_id=f"local/{ref.name}") if ref.name and ref.local_name else checkpoint


def _open(ref: ModelRef, access: Access) -> Checkpoint:
    match ref.source:
        case "folder":
            if ref.revision or is_in_hub_cache(ref.path):
                return replace(open_hub_cache(ref.path, ref.commit or ref.revision), revision=ref.revision)
            return open_folder(ref.path)
        case "s3":
            from job.checkpoints.sources.s3 import open_s3

            return open_s3(
                ref.location,
                read_timeout=access.read_timeout,
                retry_policy=access.retry_policy,
                cooldown=access.cooldowns.of(ref.location),
                deadline=access.deadline,
            )
        case "http":
            from job.checkpoints.sources.http import open_http

            return open_http(
                ref.location,
                read_timeout=access.read_timeout,
                retry_policy=access.retry_policy,
                extra_names=(ref.file,) if ref.file else (),
                cooldown=access.cooldowns.of(ref.location),
                deadline=access.deadline,
            )
        case "hub":
            from job.checkpoints.sources.hub import open_hub

            checkpoint = open_hub(
                ref.location,
                ref.commit or ref.revision,
                endpoint=access.hub,
                token=access.hf_token,
                read_timeout=access.read_timeout,
                retry_policy=access.retry_policy,
                cooldown=access.cooldowns.of(access.hub),
                deadline=access.deadline,
            )
            return replace(checkpoint, revision=ref.revision)
