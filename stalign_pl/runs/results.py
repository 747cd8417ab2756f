"""results.json of a run: rows are added as they are computed, an old row of the same name is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.evaluation.results import ALL, Row, average_over_slides, read_results, write_results


def _identify(row: Row) -> tuple[str, ...]:
    return (row.task, row.split, row.slide, row.row, row.readout, row.metric)


def merge_results(path: Path, rows: Iterable[Row], provenance: dict[str, Any], step: int) -> list[Row]:
    """Put rows into a results file (created if need be), renew the means over slides, write atomically.

    Args:
        path: of results.json.
        rows: to be put in; a row of the same name is replaced.
        provenance: what the rows came from.
        step: of training, which the model's rows are of; the provenance names it for each split (`steps`).
    """
    rows = list(rows)
    steps = {row.split: step for row in rows if row.row == "stalign"}
    provenance = {**provenance, "steps": {**read_result_steps(path), **steps}}
    kept = {_identify(row): row for row in (read_results(path) if path.exists() else []) if row.slide != ALL}
    kept.update({_identify(row): row for row in rows})
    merged = [*kept.values(), *average_over_slides(kept.values())]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_results(path, merged, provenance)
    return merged


def read_result_steps(path: Path) -> dict[str, int]:
    """Split -> step of training of the weights that a results file's rows of it are of."""
    beside = path.with_name("provenance.json")
    return json.loads(beside.read_text())["steps"] if path.exists() and beside.exists() else {}


def describe_provenance(data: STAlignData, run: Path) -> dict[str, Any]:
    """What a table came from.

    Marks (a slide stands for a patient, ...) are here, in table.txt and on figures, and not in the rows of
    results.json, whose keys are fixed: they are about the split, hence the same for every row of the file, and this
    file is written before it, so that no table stands without them.
    """
    import stalign_pl

    return {
        "version": stalign_pl.__version__,
        "config": str(run / "config.yaml"),
        "shards": str(data.shard_set.folder),
        "shards_digest": data.shard_set.digest(),
        "vocabulary_digest": data.vocabulary.digest(),
        "gene_table_digest": data.vocabulary.table,
        "split": data.division.split,
        "fold": data.division.fold,
        "split_sha256": data.division.split_sha256,
        "marks": list(data.division.marks),
        "genes_measured_where_not_all": data.measured_genes,
    }
