"""A checkpoint's files below an address of any web server. There is no listing: what is there is found by asking."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import httpx2
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # exported, but lazily

from job.checkpoints.checkpoint import Checkpoint, StoredFile, check_name, derived_commit
from job.checkpoints.formats.json_text import parse_json_object
from job.checkpoints.formats.weight_index import MAX_INDEX
from job.checkpoints.sources.remote import resuming_fetch
from job.checkpoints.transport.http_ranges import (
    Address,
    HttpFiles,
    is_retryable,
    network_failure,
    public_url,
    request_headers,
    retryable_refusal,
    stated_id,
)
from job.checkpoints.transport.parallel import map_as_completed
from job.checkpoints.transport.retries import DEFAULT_RETRY, Cooldown, RetryPolicy, retry
from job.errors import ConfigError, CorruptCheckpoint, ModelUnavailable, UnsupportedCheckpoint

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHTS = (*INDEXES, "model.safetensors", "pytorch_model.bin", "adapter_config.json")
NAMES = (
    *("config.json", "generation_config.json", *WEIGHTS),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt", "merges.txt"),
)
"""The files that are asked for; beside them, those that an index names."""

MAX_SHARDS = 2_000
"""Each costs a request. The checkpoints of the largest models have a few hundred files."""

AT_ONCE = 4
"""Requests, so that a small server is not overrun."""


def open_http(
    url: str,
    *,
    read_timeout: float,
    also: tuple[str, ...] = (),
    retry_policy: RetryPolicy = DEFAULT_RETRY,
    cooldown: Cooldown | None = None,
) -> Checkpoint:
    """The checkpoint whose files lie below ``https://host/path``, pinned by their names, sizes and ETags (or dates).

    A server has no listing: the files are those with the usual names, those that an index names, and ``also`` (GGUF
    files have no usual names). No token is sent. ``cooldown`` is shared with whoever else asks this server.

    Raises:
        ModelUnavailable: neither a config nor weights can be found there.
        UnsupportedCheckpoint: the server does not state sizes, or nothing that changes with a file's bytes.
        CorruptCheckpoint: an index is not sound.
        ConfigError: the HTTP client is set to work offline.
        TransientError: the server cannot be reached, or answers 429 or 5xx, for longer than the policy waits.
    """
    folder = _WebFolder(url.rstrip("/"), read_timeout, retry_policy, cooldown)
    found = folder.find([*NAMES, *also])
    if not found.keys() & {"config.json", *WEIGHTS, *also}:
        raise ModelUnavailable(
            f"{folder.url}: none of {', '.join(('config.json', *WEIGHTS, *also))} is there or may be read; check the "
            "address, and give the name of a weight file that is called otherwise, as GGUF files are, as `file`"
        )
    without_shards = folder.checkpoint(found)
    for index in found.keys() & set(INDEXES):
        shards = _shards(without_shards.read(index, MAX_INDEX), f"{folder.url}/{index}", folder.url)
        found |= folder.find(sorted(shards - found.keys()))
    return folder.checkpoint(found)


@dataclass(frozen=True)
class _WebFolder:
    """A folder of a web server, as this reader asks for it."""

    url: str
    read_timeout: float
    retry_policy: RetryPolicy
    cooldown: Cooldown | None

    def find(self, names: Iterable[str]) -> dict[str, tuple[StoredFile, Address]]:
        """Those of the files that are there."""

        def ask(name: str) -> tuple[StoredFile, Address] | None:
            return retry(lambda: _ask(self.url, name, self.read_timeout), self.retry_policy, self.cooldown)

        return {name: found for name, found in map_as_completed(ask, names, AT_ONCE) if found is not None}

    def checkpoint(self, found: Mapping[str, tuple[StoredFile, Address]]) -> Checkpoint:
        """The checkpoint that these files are."""
        files = {name: stored for name, (stored, _) in found.items()}
        remote = HttpFiles(self._resolve, self.read_timeout, {name: address for name, (_, address) in found.items()})
        return Checkpoint(
            repo_id=f"local/{self.url.rpartition('/')[2]}",
            revision=None,
            commit=derived_commit(files),
            source=self.url,
            files=files,
            fetch=resuming_fetch(
                lambda file, stored, begin, end: remote.read(file, stored.size, begin, end),
                files,
                self.url,
                self.retry_policy,
                self.cooldown,
            ),
        )

    def _resolve(self, file: str, _size: int) -> Address:
        found = _ask(self.url, file, self.read_timeout)
        if found is None:
            raise ModelUnavailable(f"{self.url}/{file}: it was there before and is gone; put the file back")
        return found[1]


def _shards(index: bytes, where: str, source: str) -> set[str]:
    """The files that an index names. What else is wrong with it shows when the weights are read."""
    weight_map = parse_json_object(index, where).get("weight_map")
    values = weight_map.values() if isinstance(weight_map, dict) else ()
    shards = {value for value in values if isinstance(value, str)}
    if len(shards) > MAX_SHARDS:
        raise CorruptCheckpoint(
            f"{where}: names {len(shards):,} files, at most {MAX_SHARDS:,} were expected; get the file again"
        )
    for shard in shards:
        check_name(shard, source)
    return shards


def _ask(source: str, name: str, timeout: float) -> tuple[StoredFile, Address] | None:
    """What the server says of a file, without sending it; None where it says that there is none.

    Raises:
        RetryableError: the request failed in a way that a later one may not.
        UnsupportedCheckpoint, ConfigError: see ``open_http``.
    """
    url = httpx2.URL(f"{source}/{quote(name)}")
    where = public_url(url)
    try:
        answer = get_session().request(
            "HEAD", url, headers=request_headers(token=None), timeout=timeout, follow_redirects=True
        )
    except OfflineModeIsEnabled as error:
        raise ConfigError(
            f"{where}: HF_HUB_OFFLINE forbids to ask a server; unset it or name a local folder"
        ) from error
    except httpx2.RequestError as error:
        raise network_failure(error, where) from error
    if is_retryable(answer) and answer.status_code != 501:
        raise retryable_refusal(answer, where)
    if answer.status_code in (401, 403, 404, 410):  # many object stores say 403 of what is not there
        return None
    length = answer.headers.get("Content-Length", "")
    if answer.status_code != 200 or not re.fullmatch(r"\d{1,18}", length) or answer.url.scheme != url.scheme:
        raise UnsupportedCheckpoint(
            f"{where}: HEAD led to {public_url(answer.url)} and status {answer.status_code} with Content-Length "
            f"{length!r}, {url.scheme} and status 200 with the size (or 404) was expected; use another server"
        )
    size = int(length)
    identity = stated_id(answer.headers, size)
    if identity is None:
        raise UnsupportedCheckpoint(
            f"{where}: neither ETag nor Last-Modified, one was expected, or nothing tells whether the file changed; "
            "use another server, or a copy in a local folder"
        )
    return StoredFile(size, identity), Address(answer.url, content_id=identity)
