"""Where a survey is filed, and how its manifest, its page and the model's latest.json are published."""

import hashlib
import json
import logging
from collections.abc import Mapping

from job import __version__
from job.manifest.schema import SCHEMA_VERSION, Manifest, checked_manifest
from job.store.json_file import json_value, to_json
from job.store.store import ListedObject, Store

logger = logging.getLogger(__name__)


def survey_folder(repo_id: str, commit: str, requested_tensor: str | None) -> str:
    """The folder of a survey. A survey of a requested tensor has a folder of its own below the commit's."""
    if requested_tensor is None:
        return f"{repo_id}/{commit}"
    digest = hashlib.sha256(requested_tensor.encode(errors="surrogatepass")).hexdigest()
    return f"{repo_id}/{commit}/tensor-{digest[:8]}"


def manifest_key(folder: str) -> str:
    return f"{folder}/manifest.json"


def page_key(folder: str) -> str:
    return f"{folder}/report.md"


def html_key(folder: str) -> str:
    return f"{folder}/report.html"


def latest_key(repo_id: str) -> str:
    return f"{repo_id}/latest.json"


def read_manifest(store: Store, key: str) -> Manifest | None:
    """The manifest of this key, or None. Anything else under the key is logged and ignored."""
    content = store.read(key)
    if content is None:
        return None
    try:
        return checked_manifest(json.loads(content))
    except (ValueError, RecursionError):
        logger.warning("%s: not a manifest of schema %d; ignored", store.url(key), SCHEMA_VERSION)
        return None


def is_whole(manifest: Manifest, listing: Mapping[str, ListedObject]) -> bool:
    """Whether everything that a manifest names has the right size. ``listing``: of the model's objects."""
    found = ((listing.get(entry["key"]), entry["size"]) for entry in manifest["artifacts"].values())
    return all(listed is not None and listed.size == size for listed, size in found)


def is_examined(manifest: Manifest) -> bool:
    """Whether this version of the tool chose the tensor of a manifest, or looked whether it still chooses the same."""
    written_by = manifest["tool"]["version"] if "tool" in manifest else None
    return __version__ in (written_by, manifest.get("examined_by"))


def publication_order(manifest: Manifest) -> tuple[int, str, str]:
    """What orders the manifests of a model, the newest last. Clocks of different machines disagree, and two surveys
    may fall into one second, so the clock only decides between surveys that did not know of each other."""
    return manifest.get("sequence", 0), manifest["published_at"], manifest["commit"]


def publish_survey(store: Store, folder: str, manifest: Manifest, page: str) -> None:
    """Write a manifest, and then its copy, the model's latest.json. The page that the manifest names comes first; but
    a page that an earlier manifest vouches for stays until that manifest is replaced."""
    is_published = publish_page(store, folder, page, {})
    store.write(manifest_key(folder), to_json(manifest))
    update_latest(store, folder, manifest, {})
    if not is_published:
        publish_page(store, folder, page, {})


def with_html(manifest: Manifest, folder: str) -> Manifest:
    """The same manifest, which names the HTML page in ``folder``."""
    return {**manifest, "pages": {**manifest.get("pages", {}), "html": html_key(folder)}}


def without_lost_pages(manifest: Manifest, listing: Mapping[str, ListedObject]) -> Manifest:
    """The same manifest, which names no page that is gone, but for report.md, which every run writes again if it is.

    ``listing``: of the model's objects.
    """
    pages = manifest.get("pages", {})
    there = {name: key for name, key in pages.items() if name == "report" or key in listing}
    return manifest if there == pages else {**manifest, "pages": there}


def examined(manifest: Manifest) -> Manifest:
    """The same manifest, which says that this version of the tool chooses the same tensor, so that its next run need
    not look again."""
    return manifest if is_examined(manifest) else {**manifest, "examined_by": __version__}


def replace_manifest(store: Store, folder: str, old: Manifest, new: Manifest) -> Manifest:
    """Write a manifest in place of a published one, but for one that another run has replaced meanwhile. Returns the
    manifest as it is now."""
    key = manifest_key(folder)
    if new == old or read_manifest(store, key) != old:
        return old
    store.write(key, to_json(new))
    return new


def update_latest(store: Store, folder: str, manifest: Manifest, listing: Mapping[str, ListedObject]) -> None:
    """Make latest.json the copy of the manifest in ``folder`` if this is newer, or takes the place of the one copied: a
    run may have been killed before it wrote the copy, or another one may have published in the same second. A survey of
    a tensor that somebody asked for is never the model's latest.

    ``listing``: what was listed of the model's objects, if anything. A copy that it proves is not read.
    """
    if manifest["tensor"]["chosen_by_user"]:
        return
    key = latest_key(manifest["model"])
    if key in listing and listing[key].etag and listing[key].holds(to_json(manifest)):
        return
    latest = read_manifest(store, key)
    if (
        latest is None
        or latest["tensor"]["chosen_by_user"]
        or publication_order(latest) < publication_order(manifest)
        or (_is_copy(latest, manifest) and json_value(latest) != json_value(manifest))
        or not (
            latest["commit"] == manifest["commit"]
            or is_whole(latest, listing or store.listing(f"{manifest['model']}/"))
        )
    ):
        content = store.read(manifest_key(folder))
        if content is not None:
            store.write(key, content)


def _is_copy(latest: Manifest, manifest: Manifest) -> bool:
    """Whether both are of the same survey."""
    return latest.get("pages", {}).get("report") == manifest.get("pages", {}).get("report")


def publish_page(store: Store, folder: str, page: str, listing: Mapping[str, ListedObject]) -> bool:
    """Write a survey's page, unless it is there already. A manifest names it by its key alone, so it may be made again
    at any time. Only manifests of earlier versions vouch for its bytes; then another page stays. Returns whether this
    page is there now.

    ``listing``: what was listed of the model's objects, if anything. A page that it proves is not read.
    """
    content, key = page.encode(), page_key(folder)
    if key in listing and listing[key].holds(content):
        return True
    found = store.read(key)
    if found == content:
        return True
    if found is not None and _vouches_for(store, folder, found):
        return False
    store.write(key, content)
    return True


def _vouches_for(store: Store, folder: str, page: bytes) -> bool:
    """Whether the manifest in ``folder`` names a page with the SHA-256 of this one."""
    try:
        manifest = json.loads(store.read(manifest_key(folder)) or b"{}")
        return bool(manifest["artifacts"]["report"]["sha256"] == hashlib.sha256(page).hexdigest())
    except (ValueError, RecursionError, KeyError, TypeError):
        return False
