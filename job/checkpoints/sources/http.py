"""A checkpoint's files below an address of any web server. There is no listing: files are asked for by name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

import httpx2
from huggingface_hub.errors import OfflineModeIsEnabled

from job.checkpoints.checkpoint import Checkpoint, StoredFile, check_name, derived_commit
from job.checkpoints.file_names import ADAPTER_CONFIG, CONFIG, INDEX_FILES, TOKENIZER_FILES, WEIGHT_FILES
from job.checkpoints.formats.json_text import parse_json_object
from job.checkpoints.formats.weight_index import MAX_INDEX, MAX_SHARDS, numbered_set, shard_file
from job.checkpoints.sources.hub_errors import offline_error
from job.checkpoints.sources.remote import resuming_fill
from job.checkpoints.transport.cooldowns import Cooldown
from job.checkpoints.transport.deadline import Deadline
from job.checkpoints.transport.http_client import (
    BAD_REDIRECTS,
    HttpClient,
    is_retryable,
    public_url,
    retryable_refusal,
)
from job.checkpoints.transport.http_ranges import Address, HttpFiles, content_id_from_headers
from job.checkpoints.transport.parallel import map_as_completed
from job.checkpoints.transport.retries import DEFAULT_RETRY, RetryableError, RetryPolicy
from job.errors import CorruptCheckpoint, ModelUnavailable, UnsupportedCheckpoint

WEIGHTS = (*INDEX_FILES, *WEIGHT_FILES, ADAPTER_CONFIG)
NAMES = (CONFIG, "generation_config.json", *WEIGHTS, *TOKENIZER_FILES)
"""The files that are asked for, besides those that an index names."""

REQUESTS_AT_ONCE = 4
"""Few, so that a small server is not overloaded."""


def open_http(
    url: str,
    *,
    read_timeout: float,
    extra_names: tuple[str, ...] = (),
    retry_policy: RetryPolicy = DEFAULT_RETRY,
    cooldown: Cooldown | None = None,
    deadline: Deadline | None = None,
) -> Checkpoint:
    """The checkpoint whose files lie below ``https://host/path``, pinned by their names, sizes and ETags (or dates).

    A server has no listing: the files are those with the usual names, those that an index names, and ``extra_names``
    (GGUF files have no usual names). No token is sent. ``cooldown`` is shared with everyone who asks this server,
    ``deadline`` with everyone who reads for the model.

    Raises:
        ModelUnavailable: the server has neither a config nor weights there.
        UnsupportedCheckpoint: the server does not tell any file's size, or whether a file changed.
        CorruptCheckpoint: an index is not valid.
        ConfigError: the HTTP client is set to work offline.
        TransientError: the server cannot be reached, or answers 429 or 5xx, for longer than the policy waits.
    """
    client = HttpClient(read_timeout, retry_policy, cooldown or Cooldown(), deadline or Deadline())
    folder = _WebFolder(url.rstrip("/"), client)
    found, set_aside = folder.find([*NAMES, *extra_names])
    if set_aside and not found:
        raise next(iter(set_aside.values()))
    if not found.keys() & {CONFIG, *WEIGHTS, *extra_names}:
        raise ModelUnavailable(
            f"{folder.url}: found none of {', '.join((CONFIG, *WEIGHTS, *extra_names))} that may be read, "
            "expected one or more; check the address, or name another weight file, such as a GGUF file, as `file`"
        )
    without_shards = folder.checkpoint(found, set_aside)
    for index in found.keys() & set(INDEX_FILES):
        shards = _shards(without_shards.read(index, MAX_INDEX), f"{folder.url}/{index}", folder.url)
        found_shards, unusable_shards = folder.find(sorted(shards - found.keys() - set_aside.keys()))
        found |= found_shards
        set_aside |= unusable_shards
    return replace(folder.checkpoint(found, set_aside), kept=without_shards.kept)


@dataclass(frozen=True)
class _WebFolder:
    """A folder of a web server, and how this reader asks for its files."""

    url: str
    client: HttpClient

    def find(
        self, names: Iterable[str]
    ) -> tuple[dict[str, tuple[StoredFile, Address]], dict[str, UnsupportedCheckpoint]]:
        """The size, identity and address of each file that exists, and those that are set aside, each with why."""

        def find_one(name: str) -> tuple[StoredFile, Address] | UnsupportedCheckpoint | None:
            try:
                return self.client.retry(lambda: _find_file(self.url, name, self.client))
            except UnsupportedCheckpoint as error:
                return error

        found, set_aside = {}, {}
        absent = list(names)
        for attempt in range(2):  # a file is absent if the server says so twice: once may be trouble that passes
            if attempt and absent:
                self.client.deadline.sleep(self.client.policy.first_wait)
            asked, absent = absent, []
            for name, answer in map_as_completed(find_one, asked, REQUESTS_AT_ONCE):
                if isinstance(answer, UnsupportedCheckpoint):
                    set_aside[name] = answer
                elif answer is not None:
                    found[name] = answer
                else:
                    absent.append(name)
        return found, set_aside

    def checkpoint(
        self, found: Mapping[str, tuple[StoredFile, Address]], set_aside: Mapping[str, UnsupportedCheckpoint]
    ) -> Checkpoint:
        """The checkpoint with these files."""
        files = {name: stored for name, (stored, _) in found.items()}
        remote = HttpFiles(self._resolve, self.client, {name: address for name, (_, address) in found.items()})
        return Checkpoint(
            repo_id=f"local/{self.url.rpartition('/')[2]}",
            revision=None,
            commit=derived_commit(files),
            source=self.url,
            files=files,
            fill=resuming_fill(
                lambda file, stored, begin, buffer: remote.read(file, stored.size, begin, buffer),
                files,
                self.url,
                self.client.policy,
                self.client.cooldown,
                self.client.deadline,
            ),
            set_aside={name: str(error) for name, error in set_aside.items()},
        )

    def _resolve(self, file: str, _size: int) -> Address:
        found = _find_file(self.url, file, self.client)
        if found is None:
            refusal = ModelUnavailable(
                f"{self.url}/{file}: found nothing, expected the file as before; put the file back"
            )
            raise RetryableError.unless_repeated(refusal, explained=False)
        return found[1]


def _shards(index: bytes, where: str, source: str) -> set[str]:
    """The files that an index names, and the others of their set. The index is validated fully when the weights are
    read."""
    weight_map = parse_json_object(index, where).get("weight_map")
    values = weight_map.values() if isinstance(weight_map, dict) else ()
    shards = {shard_file("", value) for value in values if isinstance(value, str)}
    if len(shards) > MAX_SHARDS:
        raise CorruptCheckpoint(
            f"{where}: names {len(shards):,} files, expected at most {MAX_SHARDS:,}; get the file again"
        )
    for shard in shards:
        check_name(shard, source)
    return shards | numbered_set(shards)


def _find_file(source: str, name: str, client: HttpClient) -> tuple[StoredFile, Address] | None:
    """A file's size, identity and address, by a HEAD request; None if the server has no such file.

    Raises:
        RetryableError: the request failed, but a later one may succeed. What ``open_http`` raises as
            UnsupportedCheckpoint is believed when it comes twice.
        ConfigError: see ``open_http``.
    """
    url = httpx2.URL(f"{source}/{quote(name)}")
    where = public_url(url)
    try:
        answer = client.answer("HEAD", url, token=None, follow_redirects=True)
    except OfflineModeIsEnabled as error:
        raise offline_error(where) from error
    except BAD_REDIRECTS as error:
        refusal = UnsupportedCheckpoint(
            f"{where}: found a redirect that leads nowhere ({error}), expected the file; check the address"
        )
        raise RetryableError.unless_repeated(refusal, explained=True) from error
    if is_retryable(answer) and answer.status_code != 501:
        raise retryable_refusal(answer, where)
    if answer.status_code in (401, 403, 404, 410):  # many object stores answer 403 for a missing file
        return None
    length = answer.headers.get("Content-Length", "")
    if answer.status_code != 200 or not re.fullmatch(r"\d{1,18}", length) or answer.url.scheme != url.scheme:
        refusal = UnsupportedCheckpoint(
            f"{where}: found status {answer.status_code} with Content-Length {length!r} at {public_url(answer.url)}, "
            f"expected {url.scheme} and status 200 with the size (or 404); use another server"
        )
        raise RetryableError.unless_repeated(refusal, explained=True)
    size = int(length)
    identity = content_id_from_headers(answer.headers, size)
    if identity is None:
        refusal = UnsupportedCheckpoint(
            f"{where}: found neither ETag nor Last-Modified, expected one to tell whether the file changed; use "
            "another server, or a copy in a local folder"
        )
        raise RetryableError.unless_repeated(refusal, explained=True)
    return StoredFile(size, identity), Address(answer.url, content_id=identity, stated_id=identity)
