"""The Hub: list a dataset repository, and fetch files of it. Everything goes through huggingface_hub.

Endpoint, token and proxy are handed to or found by huggingface_hub by its own rules (HF_ENDPOINT, HF_TOKEN or
`hf auth login`, HTTPS_PROXY); HF_HUB_DISABLE_XET=1 keeps it to plain HTTP.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.console import format_bytes
from data_prep.download.errors import DownloadError, explain_errors
from stalign_pl.errors import ConfigError

STREAMS = 4
"""Files that are fetched at once."""

UNFINISHED = ".cache/huggingface/download"
"""Where, in a folder that it fills, huggingface_hub keeps files that are on their way."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: path from its root, and size."""

    path: str
    bytes: int


@dataclass(frozen=True)
class Listing:
    """A repository's files at one commit, by path."""

    repo: str
    endpoint: str
    commit: str
    files: tuple[RemoteFile, ...]


def find_endpoint(given: str | None) -> str:
    """Find the address of the Hub: as given, else huggingface_hub's own (HF_ENDPOINT, huggingface.co).

    Raises:
        ConfigError: not an http(s) address.
    """
    from huggingface_hub import constants

    endpoint = (given or constants.ENDPOINT).rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"endpoint is {endpoint!r}; an address such as https://huggingface.co is wanted")
    return endpoint


def list_repository(repo: str, endpoint: str) -> Listing:
    """List a dataset repository as it is now.

    Raises:
        DownloadError: see `explain_errors`; or an endpoint whose answer is not a Hub's.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=endpoint)
    with explain_errors(repo, endpoint):
        try:
            commit = api.dataset_info(repo).sha
            tree = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
            files = [RemoteFile(item.path, item.size) for item in tree if isinstance(item, RepoFile)]
        except (ValueError, KeyError, TypeError) as error:  # a page of something else, or JSON of another kind
            raise DownloadError(f"{endpoint} does not answer as a Hugging Face Hub does: {error}") from error
    if commit is None:
        raise DownloadError(f"{endpoint} does not say at which commit {repo} is; is it a Hugging Face Hub?")
    return Listing(repo, endpoint, commit, tuple(sorted(files, key=lambda file: file.path)))


def is_here(out: Path, file: RemoteFile) -> bool:
    """Tell whether a file of that path and size is there.

    Whether it is the same file, huggingface_hub tells when it fetches: by the commit and hash that it noted, or by the
    content.
    """
    path = out / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def refuse_without_space(out: Path, wanted: int) -> int:
    """Check the free space where `out` is, or will be; returns it in bytes.

    Raises:
        DownloadError: fewer than `wanted`.
    """
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise DownloadError(
            f"{format_bytes(wanted)} are to be fetched, and {there} has {format_bytes(free)} free. Give an --out on a "
            f"larger "
            f"disk, or fetch fewer slides (--slides, --plan) or no images (--no-images)"
        )
    return free


def fetch(listing: Listing, files: Sequence[RemoteFile], out: Path, progress: bool = False) -> None:
    """Fetch files of a listing into `out`, at their paths in the repository.

    What is there and unchanged is not fetched again. A connection that breaks within a file is taken up where it broke;
    a run that was killed begins the files anew that it had not finished.

    Args:
        progress: show bars of files and bytes on stderr.

    Raises:
        DownloadError: see `explain_errors`; or a file that is not there, or cut off, after all.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    class Unseen(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **{**options, "disable": True})

    out.mkdir(parents=True, exist_ok=True)
    with explain_errors(listing.repo, listing.endpoint):
        snapshot_download(
            listing.repo,
            repo_type="dataset",
            revision=listing.commit,
            local_dir=out,
            endpoint=listing.endpoint,
            allow_patterns=[glob.escape(file.path) for file in files],
            max_workers=STREAMS,
            tqdm_class=tqdm if progress else Unseen,
        )
    # huggingface_hub contents itself with what it finds in the folder where it cannot reach the repository.
    missing = [file for file in files if not is_here(out, file)]
    if missing:
        raise DownloadError(
            f"{len(missing)} of {len(files)} files are not there in full, such as {out / missing[0].path} "
            f"({format_bytes(missing[0].bytes)} are wanted). Give the command again"
        )


def count_unfinished_bytes(out: Path) -> int:
    """Count the bytes of files that a killed run left half fetched (or that another run is fetching now)."""
    return sum(path.stat().st_size for path in (out / UNFINISHED).rglob("*.incomplete"))
