"""Opens the store that OUTPUT names: a folder or an S3 bucket."""

import os
from collections.abc import Iterable
from pathlib import Path

from job.errors import ConfigError
from job.store.folder import FolderStore
from job.store.store import Store


def open_store(output: str, checkpoint_folders: Iterable[Path], parts_in_flight: int) -> Store:
    """The store that OUTPUT names. Sends no request.

    Args:
        checkpoint_folders: the local checkpoints to survey.
        parts_in_flight: how many parts of an upload to S3 to send at a time.

    Raises:
        ConfigError: the address is not valid, or the folder lies in one of these checkpoints. A survey that is
            published there would change the checkpoint.
    """
    if output.startswith("s3://"):
        from job.store.s3.store import open_s3_store

        return open_s3_store(output, parts_in_flight=parts_in_flight)
    store = FolderStore(Path(output))
    for folder in checkpoint_folders:
        # Path.resolve() raises on a link that leads to itself.
        if Path(os.path.realpath(store.root)).is_relative_to(os.path.realpath(folder)):
            raise ConfigError(
                f"OUTPUT: {output} lies in the checkpoint {folder}, expected a folder outside of it; choose another"
            )
    return store
