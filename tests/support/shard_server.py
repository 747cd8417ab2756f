"""A shard set served over HTTP on this machine, with answers that can be told to be wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class ShardServer:
    """A folder of files under `/set/`.

    Attributes:
        folder: what is served.
        port: of 127.0.0.1.
        asked: names of the files that were asked for, in order.
        queries: the query of each request.
        replaced: name -> bytes that are sent in the file's place, once each; the length that is announced stays.
        missing: names that are answered with 404.
    """

    folder: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    replaced: dict[str, list[bytes]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/set"

    def content(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def corrupt(self, name: str, times: int) -> None:
        """Send the file with one bit changed, so many times."""
        content = bytearray(self.content(name))
        content[len(content) // 2] ^= 1
        self.replaced[name] = [bytes(content)] * times

    def cut(self, name: str, times: int) -> None:
        """Break the answer off in the middle, so many times."""
        self.replaced[name] = [self.content(name)[: len(self.content(name)) // 2]] * times

    def edit_manifest(self, edit: Callable[[dict], object]) -> None:
        """Change the first slide's record in the folder's manifest."""
        path = self.folder / "manifest.json"
        value = json.loads(path.read_text())
        edit(value["slides"][0])
        path.write_text(json.dumps(value))


@contextmanager
def serve(folder: Path) -> Iterator[ShardServer]:
    """Serve a folder until the block ends."""
    state = ShardServer(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            name = asked.path.removeprefix("/set/")
            state.asked.append(name)
            state.queries.append(asked.query)
            if name in state.missing or not (folder / name).is_file():
                self.send_error(404)
                return
            content = state.content(name)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(state.replaced[name].pop() if state.replaced.get(name) else content)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
