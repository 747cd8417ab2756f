"""Addresses of shard sets: what is remote, and what a log may show of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import Manifest
from stalign_pl.shard_format.address import is_remote, show_address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host/set", "https://host/set"),
        ("HTTP://ann:SECRET@host:81/a/set/?X-Amz-Signature=SECRET#SECRET", "http://host:81/a/set/"),
        ("https://ann:p@SECRET@host/set", "https://host/set"),
        ("https://ann:SEC/RET@host/set", "https://..."),
        ("https://ann:SEC?RET@host/set", "https://..."),
        (Path("https://ann:SECRET@host/set"), "https://host/set"),
        ("pipe:aws s3 cp s3://bucket/set/{} -", "pipe:aws ... s3://bucket/set/{}"),
        ("pipe:AWS_SECRET_ACCESS_KEY=SECRET aws s3 cp s3://b/set/{} -", "pipe:aws ... s3://b/set/{}"),
        ("pipe:curl -u ann:SECRET 'https://ann:SECRET@host/set/{}?sig=SECRET'", "pipe:curl ... https://host/set/{}"),
        ("pipe:curl 'https://host/get?sig=SECRET&file={}' -H SECRET", "pipe:curl ... https://host/get"),
        ("pipe:curl SECRET", "pipe:curl ..."),
    ],
)
def test_no_secret_is_shown(address: str | Path, shown: str) -> None:
    assert is_remote(address)
    assert show_address(address) == shown


@pytest.mark.parametrize("address", ["shards/set", "/shards/http", Path("pipe"), "httpd/set", "a:b"])
def test_a_folder_is_shown_as_it_is(address: str | Path) -> None:
    assert not is_remote(address)
    assert show_address(address) == str(address)


def test_what_reads_a_folder_refuses_an_address() -> None:
    with pytest.raises(ConfigError, match=r"the shard set https://host/set is not on this machine.*data\.stage_to"):
        Manifest.read(Path("https://ann:SECRET@host/set?sig=SECRET"))
