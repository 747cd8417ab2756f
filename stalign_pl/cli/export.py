"""Export a run's model into one folder: weights, their configuration, the genes, a model card and the provenance.

stalign_pl.export.pretrained.from_pretrained(FOLDER) loads it, without Lightning. Weights of frozen encoders that came
from the hub or from a file are left out, and are read from there again on loading.

examples:
  python -m stalign_pl export --config runs/demo/config.yaml --out exports/demo
  python -m stalign_pl export --config runs/demo/config.yaml --out exports/demo --push OWNER/NAME --private
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stalign_pl.errors import ConfigError
from stalign_pl.export.card import make_model_card
from stalign_pl.export.facts import collect_facts, collect_provenance
from stalign_pl.export.folder import WEIGHTS
from stalign_pl.export.from_run import read_run
from stalign_pl.export.licences import find_encoder_terms, refuse_public
from stalign_pl.export.pretrained import check_hub_name, push, save_pretrained


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
        refuse_public(encoders, given.push)
    card = make_model_card(collect_facts(run, encoders, given.licence))
    save_pretrained(
        run.model,
        given.out,
        run.architecture,
        run.preparation,
        card,
        collect_provenance(run),
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
