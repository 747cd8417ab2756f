"""The weights in a checkpoint: frozen ones are left out and filled back in, all others must fit the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stalign_pl.errors import ConfigError

CURRENT = "current_model_state"
"""Lightning's key, in a checkpoint with averaged weights, of the weights that training continues from. The average is
under `state_dict`."""

WEIGHTS = ("state_dict", CURRENT)


def leave_out_frozen(checkpoint: dict[str, Any], frozen: tuple[str, ...]) -> None:
    """Remove frozen weights from every set of weights in a checkpoint, in place.

    Args:
        checkpoint: as Lightning is about to save it.
        frozen: prefixes of the keys to remove.
    """
    for part in checkpoint.keys() & WEIGHTS if frozen else ():
        checkpoint[part] = {key: value for key, value in checkpoint[part].items() if not key.startswith(frozen)}


def fill_in_frozen(checkpoint: dict[str, Any], frozen: tuple[str, ...], ours: Mapping[str, Tensor]) -> None:
    """Add the model's own frozen weights where a checkpoint has none, in place.

    Args:
        checkpoint: as Lightning has loaded it.
        frozen: prefixes of the keys that it may lack.
        ours: the model's state dict.

    Raises:
        ConfigError: the checkpoint's keys or shapes then still differ from those of `ours`.
    """
    own = {key: value for key, value in ours.items() if frozen and key.startswith(frozen)}
    for part in checkpoint.keys() & WEIGHTS:
        checkpoint[part] = {**own, **checkpoint[part]}
    theirs = {key: list(value.shape) for key, value in checkpoint["state_dict"].items()}
    for key in sorted(ours.keys() | theirs.keys()):
        mine = list(ours[key].shape) if key in ours else "absent"
        if theirs.get(key, "absent") != mine:
            raise ConfigError(
                f"the checkpoint is of another model: {key} is {theirs.get(key, 'absent')} in it and {mine} in "
                f"this configuration. The run's config.yaml beside it has the right one"
            )
