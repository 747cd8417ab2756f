"""Turn a failed download of an encoder's files into an error that says what to do."""

from __future__ import annotations

from stalign_pl.errors import ConfigError

PAGES = "https://huggingface.co/"


def hub_refusal(name: str, repository: str | None, error: OSError) -> ConfigError:
    """Return the error to raise for a failed download.

    Args:
        name: of the encoder, as configured.
        repository: OWNER/REPOSITORY on the hub, None where it is not known.
        error: of the hub's client.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    page = f"{PAGES}{repository}" if repository else PAGES
    log_in = "log in on this machine with `hf auth login` (or set HF_TOKEN)"
    if isinstance(error, GatedRepoError):
        why = f"its owners give the files on request. Ask for access at {page}, then {log_in}"
    elif isinstance(error, RepositoryNotFoundError):
        why = f"the hub has no such repository, or hides it from you. Compare the name with {page}, and {log_in}"
    elif isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        why = (
            f"the hub cannot be reached, and the files are not in the local cache. Where there is a network, run "
            f"`hf download {repository or 'OWNER/REPOSITORY'}` once, and take its cache (HF_HOME) along"
        )
    else:
        why = f"the hub did not hand out the files ({error}). Its page is {page}"
    return ConfigError(
        f"image encoder {name!r}: {why}. Or take the file itself: pretrained: false, the architecture as a timm name "
        f"(UNI: vit_large_patch16_224, model_args: {{init_values: 1.0e-5, dynamic_img_size: true}}), and weights: FILE"
    )
