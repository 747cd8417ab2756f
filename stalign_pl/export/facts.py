"""What a model card and provenance.json say of a run, collected from its folder and its data."""

from __future__ import annotations

from collections import defaultdict

import stalign_pl
from stalign_pl.evaluation.tables import make_markdown
from stalign_pl.export.card import DataSource, ModelFacts
from stalign_pl.export.from_run import FinishedRun
from stalign_pl.export.licences import EncoderTerms
from stalign_pl.files import hash_json
from stalign_pl.shard_format import SlideRecord
from stalign_pl.shard_format.split import PARTS

LIBRARIES = ("torch", "timm", "lightning", "numpy")


def collect_facts(run: FinishedRun, encoders: tuple[EncoderTerms, ...], licence: str) -> ModelFacts:
    """Collect what the model card says of a run."""
    data = run.data
    records = {part: [slide.record for slide in getattr(data, f"{part}_slides").values()] for part in PARTS}
    rows, others = run.results()
    untold = [f"`{split}` was last evaluated at step {step}, with other weights." for split, step in others.items()]
    if not rows and not others:
        untold = ["Not evaluated: neither `validate` nor `test` was run with these weights."]
    widths = run.model.widths
    return ModelFacts(
        name=run.name,
        licence=licence,
        version=stalign_pl.__version__,
        step=run.step,
        averaged=run.averaged,
        genes=len(run.model.genes),
        dim=run.model.dim,
        fused=widths.get("niche", widths.get("spot", 0)),
        preparation=run.preparation,
        data=_count_sources(records["train"]),
        parts={part: (len(of), len({record.patient for record in of})) for part, of in records.items()},
        marks=data.division.marks,
        encoders=encoders,
        tables=make_markdown(rows, data.division.marks),
        untold=tuple(untold),
    )


def _count_sources(records: list[SlideRecord]) -> tuple[DataSource, ...]:
    """Count the training slides, patients, studies and spots of each source and licence."""
    groups: dict[tuple[str, str, str, str], list[SlideRecord]] = defaultdict(list)
    for record in records:
        groups[record.source, record.licence, record.species, record.technology].append(record)
    return tuple(
        DataSource(
            *key,
            slides=len(group),
            patients=len({record.patient for record in group}),
            studies=len({record.study for record in group}),
            spots=sum(record.spots for record in group),
        )
        for key, group in sorted(groups.items())
    )


def collect_provenance(run: FinishedRun) -> dict[str, object]:
    """Versions, and hashes of configuration, data and split; no path of this machine."""
    from importlib.metadata import version

    data = run.data
    names = {part: sorted(slide.record.name for slide in getattr(data, f"{part}_slides").values()) for part in PARTS}
    return {
        "versions": {"stalign-pl": stalign_pl.__version__, **{name: version(name) for name in LIBRARIES}},
        "step": run.step,
        "averaged": run.averaged,
        "config_sha256": run.config_sha256,
        "shards_sha256": data.shard_set.digest(),
        "vocabulary_sha256": data.vocabulary.digest(),
        "split_sha256": data.division.split_sha256,
        "slides_sha256": hash_json(names),
        "seed": run.config["seed_everything"],
    }
