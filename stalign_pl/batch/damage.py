"""Damaged samples: a row that its checksum or decoder rejects is left out, reported and counted, up to a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stalign_pl.errors import ConfigError, ShardError

SHARE, MOST = 0.001, 1000
"""The default limit: this share of a shard set's spots, and never more than this many."""

LISTED = 10
"""Samples that an error describes."""


class DamagedSampleError(ShardError):
    """One sample cannot be used; the message says why. Nothing else of its file is in doubt."""


@dataclass(frozen=True)
class Damaged:
    """A sample that was left out.

    Attributes:
        slide: the slide's number in the shard set.
        name: the slide's name.
        spot: spot index in the slide.
        file: the tar that holds it.
        why: the defect, in words.
    """

    slide: int
    name: str
    spot: int
    file: str
    why: str

    @property
    def key(self) -> tuple[int, int]:
        """Slide number and spot index."""
        return self.slide, self.spot

    def __str__(self) -> str:
        return f"slide {self.name!r}, spot {self.spot} ({self.file}): {self.why}"


def count_allowed(bad_samples: int | float | None, spots: int) -> int:
    """The number of spots that may be damaged before a run stops.

    Args:
        bad_samples: a whole number is a number of samples, a fraction from 0 to 1 a share of the spots; None: `SHARE`
            of them, at most `MOST`.
        spots: their number, of which a share is taken.

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


def make_damage_error(damaged: Sequence[Damaged], what: str) -> ShardError:
    """Make the error that ends a run; it describes the first samples.

    Args:
        damaged: the samples, more than the limit.
        what: the limit in words, e.g. "data.bad_samples allows 3 of 5,000".
    """
    first = "; ".join(str(sample) for sample in damaged[:LISTED])
    more = f"; and {len(damaged) - LISTED:,} more" if len(damaged) > LISTED else ""
    return ShardError(
        f"{len(damaged):,} damaged samples, {what}. {first}{more}. Find them all: python -m data_prep check "
        f"SHARDS --deep; then copy or build these slides again"
    )
