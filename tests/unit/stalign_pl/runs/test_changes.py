"""Which settings a run that goes on may have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl.errors import ConfigError
from stalign_pl.runs.changes import FREE, TRAINER_DECIDES, Change, find_deciding_changes, refuse_changes


def changed(key: str, old: object, new: object) -> list[str]:
    """The keys that are refused when one has changed, beside others that have not."""
    configs = []
    for value in (old, new):
        config = {"seed_everything": 1, "data": {"niche": {"k": 3}, "val_patients": ["P1"]}}
        *above, name = key.split(".")
        place = config
        for part in above:
            place = place.setdefault(part, {})
        place[name] = value
        configs.append(config)
    return [change.key for change in find_deciding_changes(*configs)]


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("seed_everything", 1, 2),
        ("data.val_patients", ["P1"], ["P1", "P2"]),
        ("data.niche.k", 3, 6),
        ("data.seed", 0, 1),
        ("data.split", None, "split.json"),
        ("model.optimizer.lr", 1e-3, 2e-3),
        ("model.model.init_args.spot_gene.class_path", "GeneMLP", "Other"),
        ("model.objective.init_args.temperature", 0.1, 0.2),
        ("checkpoint.monitor", "val/ari", "val/gene_mse"),
        ("checkpoint.save_top_k", 1, 2),
        ("gene_prediction.n_genes", 5, 6),
        ("spatial_domains.seeds", 5, 6),
        *[(f"trainer.{name}", 1, 2) for name in TRAINER_DECIDES],
        ("a_part_to_come.rate", None, 0.1),
    ],
)
def test_what_decides_the_numbers_is_named(key: str, old: object, new: object) -> None:
    assert changed(key, old, new) == [key]
    assert changed(key, old, old) == []


@pytest.mark.parametrize(
    "key",
    [
        *FREE,
        *("run.name", "run.wandb", "run.allow_changes", "last_checkpoint.minutes", "predictions.gene_layer"),
        *("trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.accelerator", "trainer.logger"),
        *("trainer.strategy.class_path", "trainer.enable_progress_bar", "trainer.log_every_n_steps"),
        *("trainer.profiler", "trainer.num_sanity_val_steps", "trainer.default_root_dir", "trainer.max_time"),
    ],
)
def test_what_cannot_change_the_numbers_is_free(key: str) -> None:
    assert changed(key, "old", "new") == []


def test_absent_and_null_are_the_same_and_a_name_is_no_prefix() -> None:
    assert find_deciding_changes({"data": {"stain": None}}, {"data": {}, "model": {"compile": None}}) == []
    assert changed("data.shards_order", 1, 2) == ["data.shards_order"]


def test_a_changed_class_names_its_arguments_too() -> None:
    old = {"model": {"objective": {"class_path": "A", "init_args": {"scale": 1}}}}
    new = {"model": {"objective": {"class_path": "B", "init_args": {"chunk": 2}}}}
    above = "model.objective"
    assert find_deciding_changes(old, new) == [
        Change(f"{above}.class_path", "A", "B"),
        Change(f"{above}.init_args.chunk", None, 2),
        Change(f"{above}.init_args.scale", 1, None),
    ]


def test_the_refusal_names_all_and_the_way_out() -> None:
    both = [Change("data.niche.k", 3, 6), Change("seed_everything", 1, None)]
    with pytest.raises(ConfigError) as refused:
        refuse_changes(both, False, Path("runs/x"))
    for text in ("runs/x", "data.niche.k was 3, is 6", "seed_everything was 1, is None", "run.allow_changes: true"):
        assert text in str(refused.value)
    refuse_changes(both, True, Path("runs/x"))
    refuse_changes([], False, Path("runs/x"))
