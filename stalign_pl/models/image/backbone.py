"""Build a timm image backbone by name, with errors that suggest the right name or option."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import timm
from torch import nn

from stalign_pl.errors import ConfigError
from stalign_pl.models.image.hub_errors import make_hub_error
from stalign_pl.models.weights import load_weights

HUB = "hf-hub:"

FOREIGN = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
"""Options of timm's that would load other weights, past the checks here."""


class TimmBackbone(nn.Module):
    """A model of timm's without classifier: its attributes, for type checkers; none is ever made.

    Attributes:
        pretrained_cfg: facts of its published weights.
        head_hidden_size: F, width of its pooled features.
    """

    pretrained_cfg: dict[str, Any]
    head_hidden_size: int


def create_backbone(
    name: str, size: int, pretrained: bool, weights: str | None, model_args: dict[str, Any]
) -> TimmBackbone:
    """Build a timm model without classifier, for square images of `size` px.

    An architecture of fixed input size (a plain ViT) is built for `size`, unless `model_args` says otherwise.

    Args:
        name: a timm name, with or without a tag (`resnet50.a1_in1k`), or `hf-hub:OWNER/REPOSITORY`.
        size: side of the images, px.
        pretrained: download (or take from the local hub cache) the weights that belong to the name.
        weights: a local file in place of the download.
        model_args: passed to the architecture, for example `{init_values: 1e-5, dynamic_img_size: true}` for UNI.

    Raises:
        ConfigError: unknown name or tag, both kinds of weights, an option that the architecture does not know, a
            download that failed, or a file that does not fit.
    """
    if pretrained and weights is not None:
        raise ConfigError(f"image encoder {name!r}: pretrained=true and weights={weights!r} contradict; keep one")
    foreign = sorted(FOREIGN & model_args.keys())
    if foreign:
        raise ConfigError(f"image encoder {name!r}: model_args has {', '.join(foreign)}; weights come by `weights`")
    if not name.startswith(HUB):
        model_args = {**_size_arguments(name, size, model_args), **model_args}
    try:
        backbone = cast(TimmBackbone, timm.create_model(name, pretrained=pretrained, num_classes=0, **model_args))
    except TypeError as error:
        raise ConfigError(f"image encoder {name!r}: model_args {model_args}: {error}") from error
    except OSError as error:
        raise make_hub_error(name, _find_repository(name), error) from error
    if weights is not None:
        classifier = backbone.pretrained_cfg.get("classifier") or ()
        load_weights(backbone, Path(weights), (classifier,) if isinstance(classifier, str) else tuple(classifier))
    return backbone


def _find_repository(name: str) -> str | None:
    """Return OWNER/REPOSITORY with the weights of the name, None where timm knows none."""
    if name.startswith(HUB):
        return name.removeprefix(HUB).partition("@")[0]
    config = timm.get_pretrained_cfg(name)
    return None if config is None else config.hf_hub_id


def _size_arguments(name: str, size: int, model_args: dict[str, Any]) -> dict[str, int]:
    """Return `{"img_size": size}` where the architecture has one input size, else {}.

    Raises:
        ConfigError: unknown name or tag.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.5)
        raise ConfigError(
            f"image encoder {name!r}: timm {timm.__version__} knows no such architecture. "
            f"{'Did you mean ' + ', '.join(near) + '?' if near else 'timm.list_models() lists them'}"
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ConfigError(f"image encoder {name!r}: {architecture} has no weights tagged {tag!r}; known: {tags}")
    config = timm.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    return {"img_size": size} if fixed and not model_args.get("dynamic_img_size") else {}


def read_hub_architecture(name: str) -> tuple[str, dict[str, Any]]:
    """Return the timm architecture that a repository's config.json names, and its options.

    Raises:
        ConfigError: the repository's files could not be downloaded.
    """
    try:
        _, architecture, options = timm.models.load_model_config_from_hf(name.removeprefix(HUB))
    except OSError as error:
        raise make_hub_error(name, _find_repository(name), error) from error
    return architecture, {option: value for option, value in options.items() if option != "num_classes"}
