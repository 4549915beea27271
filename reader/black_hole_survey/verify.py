"""Compares a published file with what the manifest says of it."""

from black_hole_survey.errors import CorruptArtifact
from black_hole_survey.manifest import Artifact
from black_hole_survey.store import Store


def verify_artifact(store: Store, artifact: Artifact) -> None:
    """Check a file's size and SHA-256.

    Raises:
        CorruptArtifact: it is missing or differs.
    """
    import hashlib  # here, because it takes a tenth of the time of importing this package

    where, expected = store.url(artifact["key"]), artifact["sha256"]
    size = store.size(artifact["key"])
    if size != artifact["size"]:
        found = "no file" if size is None else f"{size:,} bytes"
        raise CorruptArtifact(f"{where}: found {found}, expected {artifact['size']:,} bytes; publish the survey again")
    digest = hashlib.sha256()
    for chunk in store.chunks(artifact["key"]):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise CorruptArtifact(
            f"{where}: found the SHA-256 {digest.hexdigest()}, expected {expected}; publish the survey again"
        )
