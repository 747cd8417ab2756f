"""Addresses of shard sets: a folder, its http(s) URL, or a `pipe:` command; recognised, and shown without secrets.

A `pipe:` command prints one file of the set; `{}` in it stands for the file's name (webdataset's convention).
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

NAME = "{}"
"""Stands for a file's name in a `pipe:` command."""


def is_remote(address: str | Path) -> bool:
    """Whether it is a URL or a command. A Path made of a URL, which has lost a slash, counts too."""
    return re.match(r"https?:/|pipe:", str(address), re.IGNORECASE) is not None


def show_address(address: str | Path) -> str:
    """The address for logs and errors: no user, password or query of a URL; of a command its program and file alone."""
    text = str(address)
    if not is_remote(text):
        return text
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "pipe":
        return _show_command(rest)
    return _show_url(f"{scheme.lower()}:{rest if rest.startswith('//') else '/' + rest}")


def _show_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # no host and port: where a password ends is not known
        return f"{url.partition(':')[0]}://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _show_command(command: str) -> str:
    words = command.split()
    program = next((word for word in words if "=" not in word), "...")  # past assignments, which may be keys
    file = next((word for word in words if NAME in word), "")
    without_user = re.sub(r"(:/+)[^/]*@", r"\1", file.strip("'\";|&()"))
    return f"pipe:{program} ... {without_user.partition('?')[0]}".rstrip()
