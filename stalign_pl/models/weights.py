"""Load weights from a local file, strictly, and name the keys that do not fit."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from stalign_pl.errors import ConfigError

WRAPPERS = ("state_dict", "model")
"""Keys under which training programs put the weights in a checkpoint."""

KEYS_SHOWN = 5
"""Keys named in a message; the rest are counted."""


def load_weights(backbone: nn.Module, path: Path, classifiers: tuple[str, ...] = ()) -> None:
    """Load `path` into `backbone`, strictly.

    Args:
        backbone: a timm model without classifier.
        path: a `.safetensors`, `.pth`, `.pt` or `.bin` file with the backbone's own key names.
        classifiers: names of classification layers that the published file may hold; skipped, since `backbone` has
            none.

    Raises:
        ConfigError: no such file, unknown suffix, not a file of tensors, or keys or shapes that differ from those of
            the backbone.
    """
    state = {
        key: value
        for key, value in read_tensors(path).items()
        if not any(key.startswith(f"{name}.") for name in classifiers)
    }
    load_tensors(
        backbone, state, path, "Name the architecture that wrote the file, or give its arguments in model_args"
    )


def load_tensors(module: nn.Module, state: dict[str, Tensor], path: Path, advice: str) -> None:
    """Load `state`, which was read from `path`, into `module`, strictly.

    Args:
        module: gets the weights.
        state: tensors by key.
        path: of the file, for messages.
        advice: last sentence of the message, without full stop.

    Raises:
        ConfigError: keys or shapes that differ from those of the module.
    """
    wanted = module.state_dict()
    faults = [
        _describe_fault("missing keys", sorted(wanted.keys() - state.keys())),
        _describe_fault("extra keys", sorted(state.keys() - wanted.keys())),
        _describe_fault(
            "wrong shapes",
            [
                f"{key} is {list(state[key].shape)}, should be {list(wanted[key].shape)}"
                for key in sorted(wanted.keys() & state.keys())
                if state[key].shape != wanted[key].shape
            ],
        ),
    ]
    if any(faults):
        raise ConfigError(
            f"weights {path}: does not fit {type(module).__name__}: {'; '.join(fault for fault in faults if fault)}. "
            f"{advice}."
        )
    module.load_state_dict(state, strict=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by key, without unpickling code.

    Raises:
        ConfigError: no such file, unknown suffix, or not a file of tensors.
    """
    if not path.is_file():
        raise ConfigError(f"weights {path}: no such file. Give the path of a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ConfigError(f"weights {path}: is no safetensors file, or a damaged one: {error}") from error
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise ConfigError(f"weights {path}: unknown suffix {path.suffix!r}; known: .safetensors, .pth, .pt, .bin")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError) as error:
        raise ConfigError(f"weights {path}: is no file of tensors alone, or a damaged one: {error}") from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"weights {path}: should hold a dictionary of tensors by key, or one under {list(WRAPPERS)}")
    return state


def _describe_fault(what: str, items: list[str]) -> str:
    """Return `what` and the first SHOWN items, "" without items."""
    if not items:
        return ""
    more = f" and {len(items) - KEYS_SHOWN} more" if len(items) > KEYS_SHOWN else ""
    return f"{what} {', '.join(items[:KEYS_SHOWN])}{more}"
