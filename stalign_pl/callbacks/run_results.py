"""results.json of a run: rows are added as they are computed, an old row of the same name is replaced."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.evaluation.results import ALL, Row, mean_over_slides, read_results, write_results


def _identity(row: Row) -> tuple[str, ...]:
    return (row.task, row.split, row.slide, row.row, row.readout, row.metric)


def merge_results(path: Path, rows: Iterable[Row], provenance: dict[str, str]) -> list[Row]:
    """Put rows into a results file (created if need be), renew the means over slides, write atomically."""
    kept = {_identity(row): row for row in (read_results(path) if path.exists() else []) if row.slide != ALL}
    kept.update({_identity(row): row for row in rows})
    merged = [*kept.values(), *mean_over_slides(kept.values())]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_results(path, merged, provenance)
    return merged


def provenance(data: STAlignData, run: Path) -> dict[str, str]:
    """What a table came from."""
    import stalign_pl

    return {
        "version": stalign_pl.__version__,
        "config": str(run / "config.yaml"),
        "shards": str(data.shard_set.folder),
        "shards_digest": data.shard_set.digest(),
        "vocabulary_digest": data.vocabulary.digest(),
    }
