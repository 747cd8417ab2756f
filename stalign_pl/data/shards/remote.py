"""A shard set on another machine, whose files are opened through `webdataset.gopen`: by curl, or by a command."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from stalign_pl.data.shards.source import TransferError
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import make_file_stem
from stalign_pl.shard_format.address import NAME, show_address

if TYPE_CHECKING:
    from webdataset.gopen import Pipe

CURL_STATUS = {
    3: "it is not a URL",
    6: "the host is not known",
    7: "the host cannot be reached",
    18: "the transfer was cut",
    22: "the server answered with an error, such as 403 or 404",
    28: "the time was up",
    35: "no TLS connection",
    56: "the connection broke",
    60: "the server's certificate is not trusted",
}


class RemoteSource:
    """A set behind an http(s) URL of its folder, or behind a command that prints a file.

    Attributes:
        name: the set's name: of its folder, as a plain file name.
        place: the address without secrets.

    Args:
        address: `http://HOST/SET`, `https://HOST/SET` (a query, such as a signature, is added to each file's URL), or
            `pipe:COMMAND`, where `{}` stands for the file's name.

    Raises:
        ConfigError: neither of these.
    """

    tries = 2
    readable_in_place = False

    def __init__(self, address: str) -> None:
        self.place = show_address(address)
        self._is_command = address.lower().startswith("pipe:")
        if self._is_command:
            self._parts = f"pipe:{address[len('pipe:') :]}".split(NAME)
            self._shown, held = self.place, self.place.rpartition(" ")[2].partition(NAME)[0]
            if len(self._parts) == 1:
                raise ConfigError(
                    f"data.shards is {self.place}; {{}} is wanted in it where the file's name goes, as in "
                    f"pipe:aws s3 cp s3://bucket/set/{{}} -"
                )
        else:
            self._parts, held = _split_url(address, self.place), urlsplit(self.place).path
            self._shown = f"{self.place.rstrip('/')}/{NAME}"
        folders = [part for part in re.split(r"[/=:]", unquote(held)) if part]
        self.name = make_file_stem(folders[-1] if folders else "shards")

    def show_file(self, name: str) -> str:
        """Return a file's address for errors, without secrets."""
        return self._shown.replace(NAME, name) if NAME in self._shown else f"{name} from {self._shown}"

    def describe_mismatch(self, name: str, wanted: str, got: str) -> str:
        return f"{self.show_file(name)} is not the file that the manifest describes: wanted {wanted}; got {got}"

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file. Where the block reads it to its end, the program that brought it has to have ended well.

        Raises:
            ConfigError: the program that is needed is not there, or is not allowed.
            TransferError: the program failed.
        """
        from webdataset.gopen import Pipe

        opened = self._start(name)
        if not isinstance(opened, Pipe):  # a user's GOPEN_REWRITE leads to a file
            with opened:
                yield opened
            return
        try:
            yield opened.stream
            ended = not opened.stream.read(1)
        except BaseException:
            _stop(opened)
            raise
        if not ended:
            _stop(opened)
            return
        with suppress(OSError, subprocess.SubprocessError):  # its text has the whole address; the status says enough
            opened.close()
        status = opened.proc.returncode
        if status not in opened.ignore_status:
            raise TransferError(self._explain(status))

    def _start(self, name: str) -> IO[bytes] | Pipe:
        """Open through webdataset, whose errors hold the whole address: no part of theirs goes into ours."""
        from webdataset.gopen import gopen

        try:
            return gopen(name.join(self._parts), "rb")
        except FileNotFoundError as error:
            missing = error.filename
        except ValueError:
            raise ConfigError(
                f"data.shards is {self.place}, which webdataset refuses to open: is WDS_SECURE set?"
            ) from None
        except OSError as error:
            raise TransferError(f"it cannot be opened: {error.strerror}") from None
        if missing == "curl":
            raise ConfigError(
                f"data.shards is {self.place}, which webdataset reads with the program curl, and there is no curl on "
                f"PATH: install it, or name another program: pipe:PROGRAM ... {{}}"
            )
        raise TransferError("what opens it is not there")

    def _explain(self, status: int) -> str:
        """Say what a program's exit status means."""
        if self._is_command:
            return f"the command ended with status {status}"
        return f"curl ended with status {status}" + (f": {CURL_STATUS[status]}" if status in CURL_STATUS else "")


def _split_url(address: str, shown: str) -> list[str]:
    """Return what stands before and after a file's name in its URL."""
    wrong = ConfigError(
        f"data.shards is {shown}; a URL such as https://HOST/SET is wanted (a password's /, ?, # and @ are written "
        f"%2F, %3F, %23 and %40)"
    )
    try:
        parts = urlsplit(address)
        if not parts.hostname or parts.port == 0 or parts.fragment:
            raise wrong
    except ValueError:
        raise wrong from None
    folder = parts._replace(path=parts.path.rstrip("/") + "/", query="").geturl()
    return [folder, f"?{parts.query}" if parts.query else ""]


def _stop(pipe: Pipe) -> None:
    """End a program whose output is not wanted any more."""
    pipe.proc.terminate()
    with suppress(OSError, subprocess.SubprocessError):
        pipe.close()
