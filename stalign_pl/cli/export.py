"""Export a run's model into one folder: weights, their configuration, the genes, a model card and the provenance.

stalign_pl.export.pretrained.from_pretrained(FOLDER) loads it, without Lightning. Weights of frozen encoders that came
from the hub or from a file are left out, and are read from there again on loading.

examples:
  python -m stalign_pl export --config runs/demo/config.yaml --out exports/demo
  python -m stalign_pl export --config runs/demo/config.yaml --out exports/demo --push OWNER/NAME --private
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import stalign_pl
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.tables import make_markdown
from stalign_pl.export.card import DataSource, ModelFacts, make_model_card
from stalign_pl.export.folder import WEIGHTS
from stalign_pl.export.from_run import FinishedRun, read_run
from stalign_pl.export.licences import EncoderTerms, find_encoder_terms
from stalign_pl.export.pretrained import check_hub_name, push, save_pretrained
from stalign_pl.files import hash_json
from stalign_pl.shard_format import SlideRecord
from stalign_pl.shard_format.split import PARTS

LIBRARIES = ("torch", "timm", "lightning", "numpy")


def main(arguments: list[str]) -> int:
    """Write the folder, and push it to the hub if asked."""
    given = _build_parser().parse_args(arguments)
    if given.push:
        check_hub_name(given.push)
    elif given.private:
        raise ConfigError("--private is of a repository on the hub: give --push OWNER/NAME, too")
    stated = _parse_licences(given.encoder_licence)
    run = read_run(given.config, given.ckpt_path, given.shards)
    frozen = {prefix.partition(".")[0] for prefix in run.model.frozen_prefixes}
    encoders = find_encoder_terms(run.architecture, set() if given.include_frozen else frozen, frozen, stated)
    if given.push and not given.private:
        _refuse_public(encoders, given.push)
    card = make_model_card(_collect_facts(run, encoders, given.licence))
    save_pretrained(
        run.model,
        given.out,
        run.architecture,
        run.preparation,
        card,
        _collect_provenance(run),
        given.include_frozen,
        given.overwrite,
    )
    size = (given.out / WEIGHTS).stat().st_size
    print(f"wrote {given.out}: {run.checkpoint.name}, step {run.step}, {size / 2**20:.1f} MiB of weights")
    for each in encoders:
        print(f"{each.stream}: {each.name}, {each.licence or 'licence not known'}; {each.holds}")
    if given.push:
        print(f"pushed to {push(given.out, given.push, given.private)}")
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m stalign_pl export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="config.yaml of the run's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--ckpt_path", metavar="FILE", help="best, last or a path; default: best, else last")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--shards", metavar="FOLDER", help="where the shard set is now, if it has moved")
    parser.add_argument("--licence", default="other", help="of the export, by its name on the hub (default: other)")
    parser.add_argument(
        "--include-frozen", action="store_true", help="also write frozen encoders' weights; check their licences"
    )
    parser.add_argument(
        "--encoder-licence",
        action="append",
        default=[],
        metavar="STREAM=LICENCE",
        help="licence of a stream's pretrained weights, if it is not known here",
    )
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to the hub, by the account logged in")
    parser.add_argument("--private", action="store_true", help="make a new repository on the hub private")
    return parser


def _parse_licences(given: list[str]) -> dict[str, str]:
    """Stream -> licence, from STREAM=LICENCE each; raise ConfigError for another form."""
    wrong = [each for each in given if not all(each.partition("="))]
    if wrong:
        raise ConfigError(f"--encoder-licence {wrong[0]}: STREAM=LICENCE is wanted")
    return dict(each.split("=", 1) for each in given)


def _refuse_public(encoders: tuple[EncoderTerms, ...], name: str) -> None:
    """Raise ConfigError if the export holds weights that may not be published."""
    held = [f"{each.name} ({each.licence})" for each in encoders if each.restricted and each.holds != "left out"]
    if held:
        raise ConfigError(f"--push {name} without --private: the export holds weights of {', '.join(held)}")


def _collect_facts(run: FinishedRun, encoders: tuple[EncoderTerms, ...], licence: str) -> ModelFacts:
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


def _collect_provenance(run: FinishedRun) -> dict[str, object]:
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
