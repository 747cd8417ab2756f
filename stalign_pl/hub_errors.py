"""Why a Hugging Face Hub did not hand out files, and what to do: one wording for encoders, models and data sets."""

from __future__ import annotations

from typing import Literal

ENDPOINT = "https://huggingface.co"
LOG_IN = "log in on this machine with `hf auth login`, or set HF_TOKEN to a token of an account that may read it"

RepositoryKind = Literal["model", "dataset"]


def explain_hub_error(
    error: Exception,
    repository: str | None,
    kind: RepositoryKind = "model",
    endpoint: str = ENDPOINT,
    offline: str = "",
) -> str | None:
    """Explain an error of huggingface_hub's, or of its HTTP library. No explanation holds a token.

    Args:
        error: met while files of a repository were asked for.
        repository: OWNER/NAME; None where it is not known.
        kind: of the repository.
        endpoint: address of the hub.
        offline: what to do where the hub cannot be reached, a sentence.

    Returns:
        Cause and remedy, without a full stop; None for an error that is none of a hub's.
    """
    from huggingface_hub import errors

    name = repository or "the repository"
    page = "/".join([endpoint, *(["datasets"] if kind == "dataset" else []), *([repository] if repository else [])])
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: its owners give the files on request. Request access on {page}, then {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):  # the hub also answers so where a token is missing or wrong
        return (
            f"{endpoint} has no {kind} {name}, or does not show it without a valid token. Compare the name with "
            f"{page}; if it is private or gated, request access there and {LOG_IN}"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"cannot reach {endpoint}: HF_HUB_OFFLINE is set. {offline}".rstrip(" .")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _explain_unreachable(error.__cause__ or error, endpoint, offline)
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_answer(error, endpoint, page)
    http = getattr(errors, "HTTPError", None)  # of the HTTP library, which its releases change
    if http is not None and isinstance(error, http):
        return _explain_unreachable(error, endpoint, offline)
    if isinstance(error, RuntimeError):  # hf_xet's
        return f"{endpoint}: {error}. If Xet is the matter (a proxy, a mirror), HF_HUB_DISABLE_XET=1 does without it"
    return None


def _explain_unreachable(error: BaseException, endpoint: str, offline: str) -> str:
    return (
        f"cannot reach {endpoint}, or the connection broke: {type(error).__name__}: {error}. Check the network and the "
        f"proxy. {offline}"
    ).rstrip(" .")


def _explain_answer(error: Exception, endpoint: str, page: str) -> str:
    """Explain an HTTP status."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"{endpoint} refuses access (status {status}): the token is not valid or not allowed to read this. Request "
            f"access on {page}, then {LOG_IN}"
        )
    if status == 429:
        return f"{endpoint} asks to slow down (status 429): too many requests. Wait a while and try again"
    if status == 404:
        return f"{endpoint} answered with status 404; is it a Hugging Face Hub? The page would be {page}"
    said = f"with status {status}" if status else f"({str(error).partition(chr(10))[0]})"
    return f"{endpoint} answered {said}; try again later. The page is {page}"
