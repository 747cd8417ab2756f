"""Turn a failed download of an encoder's files into an error that says what to do."""

from __future__ import annotations

from stalign_pl.errors import ConfigError
from stalign_pl.hub_errors import explain_hub_error


def make_hub_error(name: str, repository: str | None, error: OSError) -> ConfigError:
    """Return the error to raise for a failed download.

    Args:
        name: of the encoder, as configured.
        repository: OWNER/REPOSITORY on the hub, None where it is not known.
        error: of the hub's client.
    """
    offline = (
        f"Where there is a network, run `hf download {repository or 'OWNER/REPOSITORY'}` once, and take its cache "
        f"(HF_HOME) along"
    )
    why = explain_hub_error(error, repository, offline=offline) or f"its files cannot be had ({error})"
    return ConfigError(
        f"image encoder {name!r}: {why}. Or take the file itself: pretrained: false, the architecture as a timm name "
        f"(UNI: vit_large_patch16_224, model_args: {{init_values: 1.0e-5, dynamic_img_size: true}}), and weights: FILE"
    )
