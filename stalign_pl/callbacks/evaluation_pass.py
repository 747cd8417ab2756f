"""What the evaluation callbacks share: collect a pass, share the slides over ranks, log, write rows and figures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from stalign_pl.callbacks.collected import Collected, Table
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.trainer import get_data
from stalign_pl.distributed import World, gather_objects
from stalign_pl.evaluation.results import Row
from stalign_pl.runs.results import describe_provenance, merge_results
from stalign_pl.training.evaluation_step import EvaluationStep
from stalign_pl.training.module import STAlignModule


@dataclass
class SlideReport:
    """What a callback found on one slide: rows for results.json, and figures already on disk."""

    rows: list[Row] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@runtime_checkable
class ShowsPictures(Protocol):
    """A logger that takes pictures, as wandb's does."""

    def log_image(self, key: str, images: list[Any]) -> None:
        """Log pictures, here paths of files, under a name."""


class EvaluationCallback(Callback):
    """Base of the callbacks that score held-out slides. One forward pass serves them all.

    A subclass names the fields of `Evaluated` that it keeps, and scores one slide at a time; slide i of the pass is
    scored by rank i modulo the number of ranks.
    """

    trained_fields: tuple[str, ...]
    untrained_fields: tuple[str, ...]
    test_fields: tuple[str, ...] = ()
    """Further fields of the trained model, kept in `test` alone."""
    logged: dict[str, str]
    """metric of a `stalign` row -> name in the logs."""
    primary: str
    """The read-out whose numbers are logged; others stand in the table alone."""
    _said_absent = False

    @abstractmethod
    def report(
        self, data: STAlignData, slide: int, trained: Table | None, untrained: Table | None, figures: Path, when: str
    ) -> SlideReport:
        """Score one slide.

        Args:
            data: of the run.
            slide: its number in the shard set.
            trained: the model's embeddings; None where the pass has none.
            untrained: the untrained model's; None where the pass has none.
            figures: folder to save figures in.
            when: "epoch003", "validate" or "test", for file names and titles.
        """

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collect(pl_module, self.trained_fields)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collect(pl_module, (*self.trained_fields, *self.test_fields))

    def _collect(self, module: LightningModule, trained: tuple[str, ...]) -> None:
        """Begin a pass."""
        self._trained = Collected(trained).to(module.device)
        self._untrained = Collected(self.untrained_fields).to(module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(outputs, EvaluationStep):
            raise TypeError(f"the evaluation step gave {type(outputs).__name__}; EvaluationStep is wanted")
        if outputs.trained is not None:
            self._trained.update(outputs.trained)
        if outputs.untrained is not None:
            self._untrained.update(outputs.untrained)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            when = "validate"
        else:
            when = "untrained" if trainer.sanity_checking else f"epoch{trainer.current_epoch:03d}"
        self._finish(trainer, pl_module, when)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "test")

    def _finish(self, trainer: Trainer, module: LightningModule, when: str) -> None:
        trained, untrained = self._trained.gather(), self._untrained.gather()
        if trainer.is_global_zero:
            self._say_absent(trained)
        run = Path(trainer.default_root_dir)
        figures = run / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        data = get_data(trainer)
        slides = sorted(data.held_out)[trainer.global_rank :: trainer.world_size]
        own = [self.report(data, slide, trained, untrained, figures, when) for slide in slides]
        reports = list(_gather(own))
        rows = [row for report in reports for row in report.rows]
        if trainer.is_global_zero:
            for note in (note for report in reports for note in report.notes):
                print(note)
            merge_results(run / "results.json", rows, describe_provenance(data, run), _get_step_of_weights(module))
            self._show(trainer, [path for report in reports for path in report.figures])
        self._log(module, rows)

    def _say_absent(self, trained: Table | None) -> None:
        """Once a run."""
        absent = [name for name in self.trained_fields if trained is not None and not trained.has(name)]
        if absent and not self._said_absent:
            self._said_absent = True
            print(f"{type(self).__name__}: the model has no {', '.join(absent)} embedding; its rows are left out")

    def _log(self, module: LightningModule, rows: list[Row]) -> None:
        """The model's primary figures, the mean over slides and each slide's; the same numbers on every rank."""
        for metric, name in self.logged.items():
            for split in ("val", "test"):
                wanted = ("stalign", metric, split, self.primary)
                found = [row for row in rows if (row.row, row.metric, row.split, row.readout) == wanted]
                for row in found:
                    module.log(f"{split}/{name}/{row.slide}", row.mean)
                if found:
                    module.log(f"{split}/{name}", sum(row.mean for row in found) / len(found), prog_bar=split == "val")

    @staticmethod
    def _show(trainer: Trainer, figures: list[Path]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, ShowsPictures):
                for path in figures:
                    logger.log_image(f"figures/{path.stem.rsplit('-', 1)[0]}", [str(path)])


def _get_step_of_weights(module: LightningModule) -> int:
    if not isinstance(module, STAlignModule):
        raise TypeError(f"the trainer's module is {type(module).__name__}; STAlignModule is wanted")
    return module.step_of_weights


def _gather(own: list[SlideReport]) -> Iterator[SlideReport]:
    """Every rank's reports, on every rank, in the order of the slides."""
    parts = gather_objects(own, World.current())
    rounds = max(len(part) for part in parts)
    return (part[number] for number in range(rounds) for part in parts if number < len(part))
