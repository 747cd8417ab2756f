"""What the Hub and the network answer, as an error that names the cause and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stalign_pl.errors import STAlignError


class DownloadError(STAlignError):
    """A data set that cannot be fetched: no access, no connection, no space. What was fetched so far stays."""


@contextmanager
def explained(repo: str, endpoint: str) -> Iterator[None]:
    """Turn huggingface_hub's errors about a dataset repository into a DownloadError. No message holds a token.

    Raises:
        DownloadError: gated, hidden or unknown repository, a refused token, an unreachable endpoint, one that is no
            Hub, a broken connection.
    """
    from huggingface_hub import errors

    page = f"{endpoint}/datasets/{repo}"
    again = "then give the command again; what was fetched stays"
    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repo} is gated, and this account or machine has no access. Request access on {page}, then log in with "
            f"`hf auth login` or set HF_TOKEN to a token of the account that was given it, {again}"
        ) from error
    except errors.RepositoryNotFoundError as error:  # the Hub also answers so where a token is missing or not valid
        raise DownloadError(
            f"{endpoint} has no dataset {repo}, or does not show it without a valid token. Is the endpoint right? If "
            f"the dataset is private or gated, request access on {page} and log in with `hf auth login` or HF_TOKEN"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"cannot reach {endpoint}: HF_HUB_OFFLINE is set. Unset it where there is a network, or run this on a "
            f"machine that has one"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise DownloadError(_explain_no_connection(endpoint, error.__cause__ or error)) from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(_explain_status(endpoint, page, error.response.status_code)) from error
    except RuntimeError as error:  # hf_xet's
        raise DownloadError(
            f"{endpoint}: {error}. If Xet is the matter (a proxy, a mirror), HF_HUB_DISABLE_XET=1 does without it"
        ) from error
    except errors.HTTPError as error:  # pyright: ignore[reportPrivateImportUsage] # of the HTTP library: no connection, a time-out, a line that broke for good
        raise DownloadError(_explain_no_connection(endpoint, error)) from error


def _explain_no_connection(endpoint: str, error: BaseException) -> str:
    return (
        f"cannot reach {endpoint}, or the connection broke: {type(error).__name__}: {error}. Check the network and the "
        f"proxy (or --endpoint), then give the command again; what was fetched stays"
    )


def _explain_status(endpoint: str, page: str, status: int) -> str:
    if status in (401, 403):
        return (
            f"{endpoint} refuses access (status {status}): the token is not valid or not allowed to read this. Request "
            f"access on {page}, then log in with `hf auth login` or set HF_TOKEN"
        )
    if status == 429:
        return f"{endpoint} asks to slow down (status 429): too many requests. Wait a while and give the command again"
    what = "is it a Hugging Face Hub?" if status == 404 else "give the command again later; what was fetched stays"
    return f"{endpoint} answered with status {status}; {what}"
