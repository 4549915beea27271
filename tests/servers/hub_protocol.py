"""The Hub's HTTP as its real client speaks it: the API, /resolve, and the CDN's signed addresses and ranges."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from tests.servers.loopback_hub import Fault, LoopbackHub, Repo

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"
Headers: TypeAlias = dict[str, str]

PIECE_NBYTES = 1 << 16
LFS_NBYTES = 10_000_000
TRICKLE_SECONDS = 0.02
"""Between two bytes of what trickles."""
LFS_SUFFIXES = {".safetensors", ".bin", ".gguf", ".h5", ".onnx", ".pt", ".pth", ".npz", ".msgpack"}
"""The Hub keeps these, and whatever is larger than 10 MB, in Git LFS; such files come from the CDN."""


@dataclass(frozen=True)
class ServedFile:
    """A file of a commit, with the ids that Git and Git LFS give it."""

    path: Path
    size: int
    oid: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> ServedFile:
        size = path.stat().st_size
        git = hashlib.sha1(f"blob {size}\0".encode())  # noqa: S324 - as git does
        sha256 = hashlib.sha256()
        with path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                git.update(piece)
                sha256.update(piece)
        return cls(path, size, git.hexdigest(), sha256.hexdigest())

    @property
    def in_lfs(self) -> bool:
        return self.size > LFS_NBYTES or self.path.suffix in LFS_SUFFIXES


@dataclass
class Request:
    """A request as it was logged. ``nbytes`` counts body bytes handed to the socket so far."""

    method: str
    host: Literal["hub", "cdn"]
    path: str
    query: dict[str, str] = field(repr=False)
    """Of a key that was repeated, its last value."""
    values: list[tuple[str, str]] = field(repr=False)
    """The query, whole."""
    range: str | None
    accept_encoding: str | None = field(repr=False)
    token: str | None = field(repr=False)
    status: int = 0
    nbytes: int = 0
    at: float = field(default_factory=time.monotonic, repr=False)
    """When it came, in seconds."""


@dataclass
class Answer:
    """Status, headers and body; of a body that is a file, only the bytes asked for are read."""

    status: int
    headers: Headers = field(default_factory=dict)
    body: bytes | ServedFile = b""


class HubServer(ThreadingHTTPServer):
    """One of the two hosts. Closing it ends its connections, also those kept alive or stalled."""

    daemon_threads = False  # so that server_close() waits for the threads, which end with their connections

    def __init__(self, address: tuple[str, int], role: Literal["hub", "cdn"], hub: LoopbackHub) -> None:
        super().__init__(address, _Handler)
        self.role = role
        self.hub = hub
        self.connections: set[socket.socket] = set()

    def server_close(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended already
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):  # a client that goes away is no error
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed names private types


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        # Small, so that hardly more is counted as sent than a client that hangs up has read.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE_NBYTES)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.connections.discard(self.request)

    def log_message(self, format: str, *args: object) -> None:
        """The log is ``hub.log``."""

    def respond(self) -> None:
        hub = self.server.hub
        url = urlsplit(self.path)
        form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        authorization = self.headers.get("Authorization")
        request = Request(
            method=self.command,
            host=self.server.role,
            path=unquote(url.path),
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            values=parse_qsl(url.query, keep_blank_values=True),
            range=self.headers.get("Range"),
            accept_encoding=self.headers.get("Accept-Encoding"),
            token=authorization.removeprefix("Bearer ") if authorization is not None else None,
        )
        hub.log.append(request)
        hub.closing.wait(hub.latency)
        fault = hub.fault_for(request)
        if fault is not None and fault.ending == "silent":
            hub.closing.wait()
            self.close_connection = True
            return
        if fault is not None and fault.status is not None:
            answer = Answer(fault.status, body=fault.body)
        elif self.server.role == "cdn":
            answer = _cdn_answer(hub, request)
        else:
            answer = _hub_answer(hub, request, form)
        self._send(request, answer, fault)

    do_GET = do_HEAD = do_POST = respond  # noqa: N815 - the names that http.server calls

    def _send(self, request: Request, answer: Answer, fault: Fault | None) -> None:
        ranges = fault.ranges if fault else "honoured"
        status, headers, begin, end = answer.status, dict(answer.headers), 0, len_of(answer.body)
        if request.range and status == 200 and request.method == "GET" and ranges != "ignored":
            status, begin, end = _asked(request.range, end)
            headers |= {"Content-Range": _content_range(status, begin, end, len_of(answer.body), ranges)}
            status = 200 if ranges == "with status 200" and status == 206 else status
        if ranges == "of another size" and "X-Linked-Size" in headers:
            headers["X-Linked-Size"] = str(int(headers["X-Linked-Size"]) + 1)
        headers = {"Content-Length": str(end - begin), "Content-Type": "application/octet-stream"} | headers
        headers |= fault.headers if fault else {}
        request.status = status
        self.send_response(status)
        if fault and fault.ending == "trickling headers":
            self.flush_headers()
            self._trickle(b"X-Filler: " + bytes(b"." * 10_000))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            whole = fault is None or fault.ending == "whole"
            self._send_body(request, answer.body, begin, end if whole or not fault else min(end, begin + fault.nbytes))
            if fault and fault.ending == "trickle" and isinstance(answer.body, bytes):
                self._trickle(answer.body[begin + fault.nbytes : end])
            elif fault and fault.ending == "trickle":
                self._trickle(bytes(end - begin - fault.nbytes))
            elif fault and not whole:
                self._end_badly(fault)

    def _send_body(self, request: Request, body: bytes | ServedFile, begin: int, end: int) -> None:
        if isinstance(body, bytes):
            request.nbytes += end - begin
            self.wfile.write(body[begin:end])
            return
        with body.path.open("rb") as stream:
            stream.seek(begin)
            while begin < end and (piece := stream.read(min(PIECE_NBYTES, end - begin))):
                begin += len(piece)
                request.nbytes += len(piece)
                self.wfile.write(piece)

    def _trickle(self, content: bytes) -> None:
        self.close_connection = True
        for place in range(len(content)):
            if self.server.hub.closing.wait(TRICKLE_SECONDS):
                return
            self.wfile.write(content[place : place + 1])

    def _end_badly(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.ending == "stall":
            self.server.hub.closing.wait()
        if fault.ending == "reset":
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(self.request.detach())


def len_of(body: bytes | ServedFile) -> int:
    return len(body) if isinstance(body, bytes) else body.size


def _asked(header: str, size: int) -> tuple[int, int, int]:
    """Status, begin and end of the answer to a Range header."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if match is None:
        return 200, 0, size
    begin, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    return (206, begin, end) if begin < end else (416, 0, 0)


def _content_range(status: int, begin: int, end: int, size: int, ranges: str) -> str:
    if status == 416:
        return f"bytes */{size}"
    if ranges == "shifted":
        return f"bytes {begin + 1}-{end}/{size}"
    return f"bytes {begin}-{end - 1}/{size + 1 if ranges == 'of another size' else size}"


def _error(status: int, code: str | None, message: str) -> Answer:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return _json({"error": message}, status, headers)


def _json(document: Json, status: int = 200, headers: Headers | None = None) -> Answer:
    return Answer(status, {"Content-Type": "application/json"} | (headers or {}), json.dumps(document).encode())


def _cdn_answer(hub: LoopbackHub, request: Request) -> Answer:
    """The bytes of a signed address. Whoever brings the Hub's token here is refused, as S3 does."""
    if request.token is not None:
        return Answer(400, body=b"<Error><Code>InvalidArgument</Code></Error>")
    if not hub.signed(request.path, request.query.get("Expires", "0"), request.query.get("Signature", "")):
        return Answer(403, body=b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
    sha256 = request.path.split("/")[2]
    for repo in hub.repos.values():
        for files in repo.commits.values():
            for file in files.values():
                if file.sha256 == sha256:
                    return Answer(200, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}, file)
    return Answer(404)


def _hub_answer(hub: LoopbackHub, request: Request, form: str) -> Answer:
    if request.token is not None and request.token not in hub.tokens:
        return _error(401, None, "Invalid credentials in Authorization header")
    if request.path == "/api/models":
        return _models(hub, request)
    if match := re.fullmatch(r"/api/collections/(.+)", request.path):
        return _collection(hub, match[1])
    if match := re.fullmatch(r"/mirror/([^/]+)/(.+)", request.path):
        return _mirrored(hub, *match.groups())
    name = r"([^/]+(?:/[^/]+)?)"
    if match := re.fullmatch(rf"/api/resolve-cache/models/{name}/([0-9a-f]{{40}})/(.+)", request.path):
        return _file(hub, request, *match.groups(), from_cache=True)
    if match := re.fullmatch(rf"/{name}/resolve/([^/]+)/(.+)", request.path):
        return _file(hub, request, *match.groups(), from_cache=False)
    if match := re.fullmatch(
        rf"/api/models/{name}(?:/(revision|tree|paths-info|refs|commits)(?:/(.+))?)?", request.path
    ):
        repo = _repo(hub, request, match[1])
        return repo if isinstance(repo, Answer) else _api(request, form, match[1], repo, match[2], match[3] or "main")
    return _error(404, None, "Sorry, we can't find the page you are looking for.")


def _api(request: Request, form: str, repo_id: str, repo: Repo, what: str | None, rest: str) -> Answer:
    """What the API says of one repository."""
    if what == "refs":
        branches, tags = _refs("heads/", repo.refs), _refs("tags/", repo.tags)
        pull_requests = {"pullRequests": _refs("", repo.pull_requests)} if request.query.get("include_prs") else {}
        return _json({"branches": branches, "tags": tags, "converts": [], **pull_requests})
    revision, _, folder = rest.partition("/") if what == "tree" else (rest, "", "")
    commit = repo.commit(revision)
    if commit is None:
        return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    files = repo.commits[commit]
    match what:
        case "tree":
            return _json([_entry(name, file) for name, file in files.items() if name.startswith(folder)])
        case "paths-info":
            asked = {value for key, value in parse_qsl(form) if key == "paths"}
            return _json([_entry(name, file) for name, file in files.items() if name in asked])
        case "commits":
            return _json(
                [{"id": sha, "title": sha[:7], "message": "", "authors": [], "date": _DATE} for sha in repo.commits]
            )
        case _:
            return _expanded(request, _about(repo_id, repo, commit, with_sizes="blobs" in request.query))


def _repo(hub: LoopbackHub, request: Request, repo_id: str) -> Repo | Answer:
    """The repository, or the answer for one that this reader may not see."""
    repo = hub.repos.get(repo_id)
    granted = request.token is not None and repo_id in hub.tokens[request.token]
    if repo is None or (repo.access == "private" and not granted):
        # The Hub does not tell a stranger whether a repository exists.
        return _error(404 if request.token else 401, "RepoNotFound", "Repository not found")
    if repo.access == "disabled":
        return _error(403, None, "Access to this resource is disabled.")
    return repo


def _file(hub: LoopbackHub, request: Request, repo_id: str, revision: str, name: str, *, from_cache: bool) -> Answer:
    """A file's own answer if it is small, a redirect to the CDN if it is in LFS."""
    repo = _repo(hub, request, repo_id)
    if isinstance(repo, Answer):
        return repo
    if repo.access == "gated" and (request.token is None or repo_id not in hub.tokens[request.token]):
        return _error(403 if request.token else 401, "GatedRepo", f"Access to model {repo_id} is restricted.")
    commit = repo.commit(revision)
    if commit is None:
        return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    file = repo.commits[commit].get(name)
    if file is None:
        return _error(404, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if file.in_lfs:
        linked = {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
        return Answer(302, headers | linked | {"Location": hub.sign(f"/blobs/{file.sha256}/{name}")})
    if not from_cache:
        return Answer(307, headers | {"Location": f"/api/resolve-cache/models/{repo_id}/{commit}/{quote(name)}"})
    return Answer(200, headers | {"ETag": f'"{file.oid}"'}, file)


def _mirrored(hub: LoopbackHub, name: str, file: str) -> Answer:
    """A file as any web server gives it."""
    path = hub.mirrors[name] / file if name in hub.mirrors else None
    if path is None or not path.is_file():
        return Answer(404)
    served = ServedFile.of(path)
    dates = {"Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
    return Answer(200, dates | {"ETag": f'"{served.oid}"', "Accept-Ranges": "bytes"}, served)


EXPANDABLE = {"author", "cardData", "config", "createdAt", "disabled", "downloads", "downloadsAllTime", "gated", "gguf"}
EXPANDABLE |= {"inference", "lastModified", "library_name", "likes", "mask_token", "model-index", "pipeline_tag"}
EXPANDABLE |= {"private", "safetensors", "sha", "siblings", "spaces", "tags", "transformersInfo", "trendingScore"}
"""What a list of models can be asked for (https://huggingface.co/docs/hub/api, and of the client's names not those that
it gives for single models alone: https://github.com/huggingface/huggingface_hub/pull/3182)."""

LISTED = {"createdAt", "downloads", "likes", "modelId", "pipeline_tag", "private", "tags", "trendingScore"}
"""What a list says of a model that is not asked for anything: not its commit."""

SORTS = {"createdAt", "downloads", "lastModified", "likes", "trendingScore"}


def _models(hub: LoopbackHub, request: Request) -> Answer:
    """The list of models by author, search, task and tags; the highest first, whatever direction is asked for
    (https://github.com/huggingface/huggingface_hub/pull/3882), and in pages, each beginning after the last of the one
    before.
    """
    query = request.query
    key = query.get("sort", "trendingScore")
    if key not in SORTS:
        return _error(400, None, f"Invalid sort: {key}")
    tags = {tag for name, value in request.values if name == "filter" for tag in value.split(",")}
    listed = [
        about
        for repo_id, repo in hub.repos.items()
        if repo.access != "private"
        # "Filter based on substrings for repos and their usernames": https://huggingface.co/docs/hub/api
        and query.get("search", "").lower() in repo_id.lower()
        and ("author" not in query or query["author"].lower() == repo_id.lower().split("/")[0])
        for about in [_about(repo_id, repo, repo.refs["main"], with_sizes=False)]
        if query.get("pipeline_tag") in (None, about.get("pipeline_tag"))
        and (isinstance(about["tags"], list) and tags <= set(map(str, about["tags"])))
    ]
    listed.sort(key=lambda about: (isinstance(about.get(key), int), about.get(key) or ""), reverse=True)
    names = [about["id"] for about in listed]
    first = names.index(query["cursor"]) + 1 if "cursor" in query else 0
    page = listed[first : first + min(hub.page_length, int(query.get("limit", hub.page_length)))]
    headers = {}
    if first + len(page) < len(listed):
        after = [pair for pair in request.values if pair[0] != "cursor"] + [("cursor", page[-1]["id"])]
        headers["Link"] = f'<{hub.next_page or hub.endpoint}/api/models?{urlencode(after)}>; rel="next"'
    answers = [_expanded(request, about, LISTED) for about in page]
    if refused := [answer for answer in answers if answer.status != 200]:
        return refused[0]
    return _json([json.loads(answer.body) for answer in answers if isinstance(answer.body, bytes)], 200, headers)


def _expanded(request: Request, about: dict[str, Json], otherwise: set[str] | None = None) -> Answer:
    """What the API says of a model where it is asked for some of its properties: those, and no other."""
    asked = {value for name, value in request.values if name == "expand"}
    if not asked <= EXPANDABLE:
        return _error(400, None, f"Invalid expand: {', '.join(sorted(asked - EXPANDABLE))}")
    kept = asked or otherwise
    return _json({name: value for name, value in about.items() if kept is None or name in {"_id", "id"} | kept})


def _collection(hub: LoopbackHub, slug: str) -> Answer:
    """A collection with all its items, in the shape that the client reads (``huggingface_hub.hf_api.Collection``); of
    its models' commits it says nothing.
    """
    if slug not in hub.collections:
        return _error(404, None, "Collection not found")
    items: list[Json] = [
        {"_id": f"{place:024x}", "position": place, "type": kind, "id": name, "repoType": kind, "gated": False}
        for place, (kind, name) in enumerate(hub.collections[slug])
    ]
    about: dict[str, Json] = {"title": slug, "owner": {"name": slug.split("/")[0]}, "private": False, "upvotes": 0}
    return _json({"slug": slug, "items": items, "lastUpdated": _DATE, "theme": "green", "position": 0, **about})


_DATE = "2026-01-01T00:00:00.000Z"


def _about(repo_id: str, repo: Repo, commit: str, *, with_sizes: bool) -> dict[str, Json]:
    siblings: list[Json] = [
        {"rfilename": name, **(_sibling(file) if with_sizes else {})} for name, file in repo.commits[commit].items()
    ]
    return {
        "_id": hashlib.sha256(repo_id.encode()).hexdigest()[:24],
        "id": repo_id,
        "modelId": repo_id,
        "author": repo_id.split("/", maxsplit=1)[0],
        "sha": commit,
        "createdAt": _DATE,
        "lastModified": _DATE,
        "private": repo.access == "private",
        "gated": "auto" if repo.access == "gated" else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "trendingScore": 0,
        "tags": [],
        "siblings": siblings,
        **repo.about,
    }


def _sibling(file: ServedFile) -> dict[str, Json]:
    facts: dict[str, Json] = {"size": file.size, "blobId": file.oid}
    if file.in_lfs:
        facts["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
    return facts


def _entry(name: str, file: ServedFile) -> dict[str, Json]:
    facts: dict[str, Json] = {"type": "file", "path": name, "size": file.size, "oid": file.oid}
    if file.in_lfs:
        facts["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return facts


def _refs(prefix: str, commits: dict[str, str]) -> Json:
    """References in the shape that the client reads (``HfApi.list_repo_refs``); like the Hub's, in no useful order."""
    return [
        {"name": name, "ref": name if name.startswith("refs/") else f"refs/{prefix}{name}", "targetCommit": commit}
        for name, commit in reversed(commits.items())
    ]
