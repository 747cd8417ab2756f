"""What the Hub and the network answer, as an error that names the cause and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stalign_pl.errors import STAlignError
from stalign_pl.hub_errors import explain_hub_error

ELSEWHERE = "Give --endpoint for a mirror, or run this on a machine that has a network"


class DownloadError(STAlignError):
    """A data set that cannot be fetched: no access, no connection, no space. What was fetched so far stays."""


@contextmanager
def explain_errors(repo: str, endpoint: str) -> Iterator[None]:
    """Turn huggingface_hub's errors about a dataset repository into a DownloadError. No message holds a token.

    Raises:
        DownloadError: gated, hidden or unknown repository, a refused token, an unreachable endpoint, one that is no
            Hub, a broken connection.
    """
    try:
        yield
    except Exception as error:
        why = explain_hub_error(error, repo, "dataset", endpoint, ELSEWHERE)
        if why is None:
            raise
        raise DownloadError(f"{why}. Then give the command again; what was fetched stays") from error
