"""Print what an epoch of `fit` is made of, before training: batches, padding, slides, partners, masked pairs.

Shards, split, composition and niche come from a config, from options, or from both; options override the config.

examples:
  python -m stalign_pl plan --config configs/paper.yaml --shards shards/paper --devices 8
  python -m stalign_pl plan --shards shards/hest --split splits/hest.json --slides 16 --spots 64 --out plan.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from stalign_pl.data.epoch.division import divide
from stalign_pl.data.epoch.figures import compute_figures, estimate_excluded_shares
from stalign_pl.data.epoch.plan import Composition, divide_rows, plan_training, write_rows
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.errors import ConfigError
from stalign_pl.files import parse_output_file

Config = TypeVar("Config", Composition, NicheConfig)

DIVISION = ("split", "fold", "val_patients", "test_patients", "train_patients")
OPTIONS = {"composition": ("slides", "spots", "run"), "niche": ("k", "rings", "exclude_rings")}


def main(arguments: list[str]) -> int:
    """Print the figures; write the CSV if asked."""
    given = _build_parser().parse_args(arguments)
    data, devices = _read_configs(given.config)
    _override(data, given)
    composition = _build_section(Composition, data["composition"], "data.composition")
    niche = _build_section(NicheConfig, data["niche"], "data.niche")
    ranks = given.devices if given.devices is not None else devices
    if ranks < 1:
        raise ConfigError(f"--devices is {ranks}; it must be at least 1")
    rows = divide_rows(composition.batch, ranks)
    slides = divide(ShardSet(data["shards"]), *(data.get(name) for name in DIVISION)).train
    niche.excluded_width([slide.record.ring_members for slide in slides.values()])
    sizes = {number: len(slide) for number, slide in slides.items()}
    seed = data.get("seed") or 0
    for name, value in (("--epoch", given.epoch), ("--seed", seed)):
        if value < 0:
            raise ConfigError(f"{name} is {value}; 0 or more is wanted")
    plan = plan_training(sizes, composition, seed, given.epoch)
    masked = niche if given.exact else estimate_excluded_shares(slides, niche)
    lines = compute_figures(plan, given.epoch, slides, masked).describe()
    lines.append((f"rows a rank on {ranks}", f"{rows:,}"))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}")
    if given.out is not None:
        write_rows(given.out, plan, slides)
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m stalign_pl plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def split_names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="a config of `fit`; later ones win"
    )
    parser.add_argument("--shards", metavar="DIR", help="folder of a shard set")
    parser.add_argument("--split", metavar="FILE", help="of `python -m data_prep splits`")
    parser.add_argument("--fold", metavar="NAME", help="its fold")
    for part in ("val", "test", "train"):
        parser.add_argument(f"--{part}-patients", type=split_names, metavar="A,B", help="in place of a split")
    parser.add_argument("--slides", type=int, metavar="S", help="data.composition.slides")
    parser.add_argument("--spots", type=int, metavar="M", help="data.composition.spots")
    parser.add_argument("--run", type=int, metavar="N", help="data.composition.run")
    parser.add_argument("--k", type=int, metavar="K", help="data.niche.k")
    parser.add_argument("--rings", type=int, metavar="N", help="data.niche.rings")
    parser.add_argument("--exclude-rings", type=int, metavar="N", help="data.niche.exclude_rings")
    parser.add_argument("--seed", type=int, metavar="N", help="data.seed (default 0)")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="which epoch (default 0)")
    parser.add_argument("--devices", type=int, metavar="N", help="processes in all (default: of the config, else 1)")
    parser.add_argument("--exact", action="store_true", help="count masked pairs by reading every spot's neighbours")
    parser.add_argument("--out", type=parse_output_file, metavar="FILE", help="CSV of batch, row, slide, spot")
    return parser


def _read_configs(paths: list[str]) -> tuple[dict[str, Any], int]:
    """Read the `data` section and the number of processes; 1 if the files give no number (auto, a list of devices)."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        merged = OmegaConf.merge({}, *(OmegaConf.load(path) for path in paths))
        wanted = ("shards", *DIVISION, "seed", *OPTIONS)
        data = {name: OmegaConf.select(merged, f"data.{name}") for name in wanted}
        data = {
            name: OmegaConf.to_object(value) if OmegaConf.is_config(value) else value for name, value in data.items()
        }
        if data["seed"] is None:
            data["seed"] = OmegaConf.select(merged, "seed_everything")
        counts = [OmegaConf.select(merged, f"trainer.{name}") for name in ("devices", "num_nodes")]
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{', '.join(paths)}: {error}") from error
    processes = [count if isinstance(count, int) and count > 0 else 1 for count in counts]
    return data, processes[0] * processes[1]


def _override(data: dict[str, Any], given: argparse.Namespace) -> None:
    """Put the options into a config's `data` section, in place; raise ConfigError if there are no shards then."""
    for name in ("shards", *DIVISION, "seed"):
        if getattr(given, name) is not None:
            data[name] = getattr(given, name)
    for group, names in OPTIONS.items():
        chosen = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
        data[group] = {**(data.get(group) or {}), **chosen}
    if not data.get("shards"):
        raise ConfigError("no shards: give --shards FOLDER, or --config FILE with data.shards")


def _build_section(kind: type[Config], values: Mapping[str, Any], name: str) -> Config:
    """Build a section's dataclass; raise ConfigError for an unknown key, or where an integer or flag is wanted."""
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{name} has no {', '.join(unknown)}; known: {', '.join(known)}")
    for key, value in values.items():
        example = getattr(kind(), key)
        if isinstance(example, int) and (
            not isinstance(value, int) or isinstance(value, bool) != isinstance(example, bool)
        ):
            if value is None and key == "k":
                continue
            raise ConfigError(f"{name}.{key} is {value!r}; {type(example).__name__} is wanted")
    return kind(**values)
