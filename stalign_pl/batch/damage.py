"""Damaged samples: a row that its checksum or its decoder rejects is left out, named and counted, up to a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stalign_pl.errors import ConfigError, ShardError

SHARE, MOST = 0.001, 1000
"""Where no limit is given: this share of the set's spots, and never more than this many."""

LISTED = 10


class DamagedSample(ShardError):
    """One sample cannot be used; the message says why. Nothing else of its file is in doubt."""


@dataclass(frozen=True)
class Damaged:
    """A sample that was left out.

    Attributes:
        slide: number in the set. name: its name. spot: index in the slide.
        file: the tar that holds it.
        why: what is wrong with it.
    """

    slide: int
    name: str
    spot: int
    file: str
    why: str

    @property
    def key(self) -> tuple[int, int]:
        return self.slide, self.spot

    def __str__(self) -> str:
        return f"slide {self.name!r}, spot {self.spot} ({self.file}): {self.why}"


def allowed(bad_samples: int | float | None, spots: int) -> int:
    """How many of a set's spots may be damaged before a run stops.

    Args:
        bad_samples: a whole number is a number of samples, a fraction from 0 to 1 a share of the set; None: `SHARE` of
            it, at most `MOST`.

    Raises:
        ConfigError: a negative number, or a fraction above 1.
    """
    if bad_samples is None:
        return min(int(SHARE * spots), MOST)
    if bad_samples < 0 or (isinstance(bad_samples, float) and bad_samples > 1):
        raise ConfigError(
            f"data.bad_samples is {bad_samples}; a number of samples (0, 1, 2, ...), a share of the set (0.0 to 1.0) "
            f"or null is wanted"
        )
    return int(bad_samples * spots) if isinstance(bad_samples, float) else bad_samples


def too_many(damaged: Sequence[Damaged], what: str) -> ShardError:
    """The error that ends a run, with the first samples.

    Args:
        what: what the limit is, e.g. "data.bad_samples allows 3 of 5,000".
    """
    first = "; ".join(str(sample) for sample in damaged[:LISTED])
    more = f"; and {len(damaged) - LISTED:,} more" if len(damaged) > LISTED else ""
    return ShardError(
        f"{len(damaged):,} damaged samples, {what}. {first}{more}. Find them all: python -m data_prep check "
        f"SHARDS --deep; then copy or build these slides again"
    )
