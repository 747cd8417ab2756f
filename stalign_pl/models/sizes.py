"""Sizes of a model's parts, refused where a part is built: torch builds a layer of none and fails in its first step."""

from __future__ import annotations

from stalign_pl.errors import ConfigError


def check_sizes(part: str, **sizes: int) -> None:
    """Raises ConfigError for a size below 1, with the part's name, the argument's and its value."""
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{part}: {name} is {value}; at least 1 is wanted")
