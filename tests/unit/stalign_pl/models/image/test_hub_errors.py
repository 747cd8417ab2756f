"""A hub that does not hand out an encoder's files: the message says what to do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import timm.models._hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from stalign_pl.errors import ConfigError
from stalign_pl.models import TimmStream

UNI = "hf-hub:MahmoodLab/UNI"
ANSWER = SimpleNamespace(headers={}, request=None)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        (UNI, GatedRepoError("403", response=ANSWER), ["on request", "huggingface.co/MahmoodLab/UNI", "hf auth login"]),
        (UNI + "@main", GatedRepoError("403", response=ANSWER), ["on https://huggingface.co/MahmoodLab/UNI,"]),
        (UNI, RepositoryNotFoundError("404", response=ANSWER), ["has no model MahmoodLab/UNI", "HF_TOKEN"]),
        (UNI, LocalEntryNotFoundError("offline"), ["cannot reach", "hf download MahmoodLab/UNI", "HF_HOME"]),
        ("resnet18.a1_in1k", OfflineModeIsEnabled("offline"), ["hf download timm/resnet18.a1_in1k"]),
        (UNI, HfHubHTTPError("503 busy", response=ANSWER), ["503 busy", "huggingface.co/MahmoodLab/UNI"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_refusal_names_the_page_the_login_and_the_file(
    name: str, error: Exception, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(timm.models._hub, "hf_hub_download", refuse)
    with pytest.raises(ConfigError) as raised:
        TimmStream(2, 4, name=name, size=224, pretrained=True)
    for text in (f"image encoder {name!r}", "weights: FILE", *said):
        assert text in str(raised.value)
