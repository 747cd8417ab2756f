"""The errors that a user can cause and mend. Each message names the thing, its value and what would be right."""

from collections.abc import Iterable


class STAlignError(Exception):
    """Base of every error that is about the user's data, files or configuration."""


class ShardError(STAlignError):
    """A shard set that is missing, damaged, or of another format version."""


class TrainingError(STAlignError):
    """A run that cannot go on, for what it met on its way."""


class ConfigError(STAlignError):
    """A configuration that contradicts itself or the data."""


SHOWN = 8
"""Names listed in an error; beyond these only their number."""


def join_names(names: Iterable[str]) -> str:
    """Join names for a message: the first few, and how many more."""
    names = list(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_sizes(part: str, **sizes: int) -> None:
    """Refuse sizes below 1.

    Args:
        part: what has the sizes, for the message.
        sizes: argument -> its value.

    Raises:
        ConfigError: one is below 1.
    """
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{part}: {name} is {value}; at least 1 is wanted")
