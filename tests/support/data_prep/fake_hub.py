"""A Hugging Face Hub of one dataset repository on this machine: info, tree, resolve, a host for large files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 5
"""Entries a page of the tree, so that a listing takes several requests."""

LARGE = (".png", ".tif", ".h5ad")
"""Files that the Hub keeps as LFS objects and serves from another host."""


@dataclass(frozen=True)
class Asked:
    """One request: what was asked for, from which byte, with which token, and how many bytes of the file were sent."""

    method: str
    path: str
    start: int
    token: str
    sent: int


@dataclass
class FakeHub:
    """Attributes:
    files: path -> content.
    gate: the token that opens the repository's files; '' for an open repository.
    refused: a token that is valid and has no access.
    cut: path -> after how many bytes the next answer breaks off.
    stall: path -> after how many bytes answers stop until `release` is set.
    listed: path -> a size that the tree states in place of the true one.
    """

    repo: str
    files: dict[str, bytes]
    commit: str = "a" * 40
    gate: str = ""
    refused: str = ""
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    listed: dict[str, int] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fetched(self) -> list[Asked]:
        """The requests that asked for the content of a file."""
        return [asked for asked in self.asked if asked.method == "GET" and asked.path in self.files]

    def tree(self) -> list[dict]:
        entries: list[dict] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
            for path in sorted({path.rsplit("/", 1)[0] for path in self.files if "/" in path})
        ]
        for path, content in sorted(self.files.items()):
            size = self.listed.get(path, len(content))
            entry = {"type": "file", "oid": blob_id(content), "size": size, "path": path}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
            entries.append(entry)
        return entries


def blob_id(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path, repo = unquote(url.path), re.escape(self.hub.repo)
        if re.fullmatch(f"/api/datasets/{repo}", path):
            self._json({"id": self.hub.repo, "sha": self.hub.commit, "gated": bool(self.hub.gate)}, path)
        elif re.fullmatch(f"/api/datasets/{repo}/tree/{self.hub.commit}", path):
            first = int(parse_qs(url.query).get("cursor", ["0"])[0])
            tree = self.hub.tree()
            more = {}
            if first + PAGE < len(tree):
                more["Link"] = f'<{self.hub.endpoint}{path}?recursive=True&cursor={first + PAGE}>; rel="next"'
            self._json(tree[first : first + PAGE], path, more)
        elif match := re.fullmatch(f"/datasets/{repo}/resolve/{self.hub.commit}/(.+)", path):
            self._resolve(match[1])
        elif match := re.fullmatch("/cdn/(.+)", path):
            self._send(match[1])
        else:
            self._head(404, {"X-Error-Code": "RepoNotFound"}, path)

    def _resolve(self, path: str) -> None:
        if self.hub.gate and self.token != self.hub.gate:
            status = 403 if self.token and self.token == self.hub.refused else 401
            self._head(status, {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted"}, path)
        elif path not in self.hub.files:
            self._head(404, {"X-Error-Code": "EntryNotFound"}, path)
        elif path.endswith(LARGE):
            content = self.hub.files[path]
            headers = {
                "X-Repo-Commit": self.hub.commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Location": f"http://localhost:{self.hub.port}/cdn/{path}",  # another host, as on the Hub
            }
            self._head(302, headers, path)
        else:
            etag = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{blob_id(self.hub.files[path])}"'}
            self._send(path, etag)

    def _send(self, path: str, headers: dict[str, str] | None = None) -> None:
        content = self.hub.files[path]
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        self.send_response(206 if match else 200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            self._note(path)
            return
        end = min(len(content), self.hub.cut.pop(path, len(content)), self.hub.stall.get(path, len(content)))
        self.wfile.write(content[start:end])
        self.wfile.flush()
        self._note(path, start, max(end - start, 0))
        if path in self.hub.stall:
            self.hub.stalled.set()
            self.hub.release.wait(300)
        if end < len(content):
            self.close_connection = True

    def _json(self, value: object, path: str, headers: dict[str, str] | None = None) -> None:
        payload = json.dumps(value).encode()
        self.send_response(200)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
        self._note(path)

    def _head(self, status: int, headers: dict[str, str], path: str) -> None:
        self.send_response(status)
        for name, text in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, text)
        self.end_headers()
        self._note(path if status != 302 else f"redirect of {path}")

    def _note(self, path: str, start: int = 0, sent: int = 0) -> None:
        self.hub.asked.append(Asked(self.command, path, start, self.token, sent))
