"""Which store OUTPUT names: a folder or an S3 bucket."""

from collections.abc import Iterable
from pathlib import Path

from job.errors import ConfigError
from job.store.folder import FolderStore
from job.store.store import Store


def open_store(output: str, checkpoint_folders: Iterable[Path]) -> Store:
    """The store that OUTPUT names. Nothing is asked of it yet. ``checkpoint_folders``: those that are to be surveyed.

    Raises:
        ConfigError: the address cannot be one, or the folder lies in a checkpoint that is to be surveyed, which a
            survey published into it would change.
    """
    if output.startswith("s3://"):
        from job.store.s3 import open_s3_store

        return open_s3_store(output)
    store = FolderStore(Path(output))
    for folder in checkpoint_folders:
        if store.root.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"OUTPUT: {output} lies in the checkpoint {folder}; choose a folder outside of it")
    return store
