"""Licences of a model's encoders: what an export must state, and which weights it may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stalign_pl.errors import ConfigError
from stalign_pl.export.architecture import Architecture
from stalign_pl.models.frozen import Source
from stalign_pl.models.image.backbone import HUB

RESEARCH_ONLY = "cc-by-nc-nd-4.0, for research only; its owners give the weights on request, and no one else may"
KNOWN = {
    "MahmoodLab/UNI": RESEARCH_ONLY,
    "MahmoodLab/UNI2-h": RESEARCH_ONLY,
    "MahmoodLab/CONCH": RESEARCH_ONLY,
}
"""Repository on the hub -> licence of its weights, as its page states it. timm has the licences of its own models."""

Holds = Literal["left out", "as published", "trained further"]


@dataclass(frozen=True)
class EncoderTerms:
    """The licence of an encoder that started with published weights.

    Attributes:
        stream: of the model.
        name: of the source: a name on the hub, or a file's name.
        licence: in words; "" if unknown.
        page: address; "" for a file.
        holds: which of its weights are in the export.
    """

    stream: str
    name: str
    licence: str
    page: str
    holds: Holds

    @property
    def restricted(self) -> bool:
        """Whether the licence forbids derivatives or commercial use."""
        return not {"nc", "nd"}.isdisjoint(re.split(r"[^a-z]+", self.licence.lower()))


def find_encoder_terms(
    architecture: Architecture, left_out: set[str], frozen: set[str], stated: Mapping[str, str]
) -> tuple[EncoderTerms, ...]:
    """Return the terms of all encoders with a source.

    Args:
        architecture: the model's.
        left_out: streams whose frozen weights are not in the export.
        frozen: streams with frozen weights.
        stated: stream -> licence in the user's words, where it is not known here.

    Raises:
        ConfigError: a stream in `stated` without a source, or weights to be exported whose licence is unknown.
    """
    sources = {
        stream: source
        for stream, part in architecture.parts.items()
        if part is not None and (source := part.source()) is not None
    }
    unknown = sorted(stated.keys() - sources.keys())
    if unknown:
        raise ConfigError(
            f"--encoder-licence names {', '.join(unknown)}; streams that began with published weights: "
            f"{', '.join(sources) or 'none'}"
        )
    terms = []
    for stream, source in sources.items():
        licence, page = _find_terms(source)
        licence = stated.get(stream, licence)
        holds: Holds = "left out" if stream in left_out else "as published" if stream in frozen else "trained further"
        name = source.name if source.on_hub else Path(source.name).name
        if holds != "left out" and not licence:
            raise ConfigError(
                f"the export would hold weights of {name} ({stream}, {holds}), whose licence is not known here. Name "
                f"it: --encoder-licence {stream}=LICENCE"
            )
        terms.append(EncoderTerms(stream, name, licence, page, holds))
    return tuple(terms)


def _find_terms(source: Source) -> tuple[str, str]:
    """Return licence and page, "" each if unknown."""
    import timm

    if not source.on_hub:
        return "", ""
    if source.name.startswith(HUB):
        repository = source.name.removeprefix(HUB).partition("@")[0]
        return KNOWN.get(repository, ""), f"https://huggingface.co/{repository}"
    config = timm.get_pretrained_cfg(source.name)
    if config is None:
        return "", ""
    return config.license or "", f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else ""


def refuse_public(encoders: tuple[EncoderTerms, ...], name: str) -> None:
    """Raise ConfigError if the export holds weights that may not be published."""
    held = [f"{each.name} ({each.licence})" for each in encoders if each.restricted and each.holds != "left out"]
    if held:
        raise ConfigError(f"--push {name} without --private: the export holds weights of {', '.join(held)}")
