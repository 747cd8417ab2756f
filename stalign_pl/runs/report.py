"""RunReport: one line an epoch, the table at the end of `test`."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from stalign_pl.data.trainer import get_data
from stalign_pl.evaluation.results import ALL, Row, read_results
from stalign_pl.evaluation.tables import LOWER_IS_BETTER, make_table
from stalign_pl.files import replace_file


class RunReport(Callback):
    """Prints what a person watches for; the numbers themselves are in results.json and metrics.csv."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        path = Path(trainer.default_root_dir) / "results.json"
        if not trainer.is_global_zero or not path.exists():
            return
        rows = [row for row in read_results(path) if row.split == "val" and row.slide == ALL]
        if trainer.sanity_checking:
            print(
                f"\nbefore training  {_summarise(rows, 'untrained')}\n    floors       {_summarise_baselines(rows)}",
                flush=True,
            )
        else:
            loss = trainer.callback_metrics.get("train/loss")
            shown = "" if loss is None else f"loss {float(loss):.3f}  "
            when = "validate" if trainer.state.fn == TrainerFn.VALIDATING else f"epoch {trainer.current_epoch:3d}"
            print(f"\n{when}  {shown}{_summarise(rows, 'stalign')}", flush=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        from rich.console import Console

        run = Path(trainer.default_root_dir)
        path = run / "results.json"
        if not trainer.is_global_zero or not path.exists():
            return
        rows = read_results(path)
        console = Console(record=True, width=170)
        data = get_data(trainer)
        shards = data.shard_set.folder
        console.print(f"run {run}, shards {shards}, checkpoint {trainer.ckpt_path}", soft_wrap=True)
        for split in ("val", "test"):
            if any(row.split == split for row in rows):
                console.print(make_table(rows, split, data.division.marks))
        with replace_file(run / "table.txt") as temporary:
            temporary.write_text(console.export_text())
        console.print(f"results: {path}   figures: {run / 'figures'}")


def _find(rows: list[Row], name: str, metric: str) -> float | None:
    """A row's figure by the metric's primary read-out."""
    readouts = ("tied_gmm", "ridge", "mean", "formula")
    found = [row for row in rows if row.row == name and row.metric == metric and row.readout in readouts]
    return found[0].mean if found else None


def _summarise(rows: list[Row], name: str) -> str:
    """A row's figures, those that there are."""
    parts = []
    for metric, title in (("ari", "val/ari"), ("mse", "val/gene_mse"), ("pearson", "val/gene_pearson")):
        value = _find(rows, name, metric)
        if value is not None:
            parts.append(f"{title} {value:.3f}")
    return "  ".join(parts)


def _summarise_baselines(rows: list[Row]) -> str:
    """The strongest training-free row of each figure: what the model has to beat."""
    baselines = {row.row for row in rows if not row.row.startswith("stalign")} - {"oracle", "untrained"}
    parts = []
    for metric in ("ari", "mse"):
        found = [(name, _find(rows, name, metric)) for name in sorted(baselines)]
        values = [(value, name) for name, value in found if value is not None]
        if values:
            value, name = (min if metric in LOWER_IS_BETTER else max)(values, key=lambda pair: pair[0])
            parts.append(f"val/{'gene_' if metric == 'mse' else ''}{metric} {value:.3f} ({name})")
    return "  ".join(parts)
