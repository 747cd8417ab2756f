"""What the evaluation callbacks share: collect a pass, share the slides over ranks, log, write rows and figures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lightning import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from stalign_pl.callbacks.collected import Collected, Table
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.evaluation.results import Row
from stalign_pl.runs.results import merge_results, provenance
from stalign_pl.training.evaluation_step import EvaluationStep
from stalign_pl.training.module import STAlignModule


@dataclass
class SlideReport:
    """What a callback found on one slide: rows for results.json, and figures already on disk."""

    rows: list[Row] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
            trained, untrained: embeddings of the pass; None where the pass has none.
            figures: folder to save figures in.
            when: "epoch003", "validate" or "test", for file names and titles.
        """

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: STAlignModule) -> None:
        self._trained, self._untrained = Collected(self.trained_fields), Collected(self.untrained_fields)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: STAlignModule) -> None:
        self._trained = Collected((*self.trained_fields, *self.test_fields))
        self._untrained = Collected(self.untrained_fields)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: STAlignModule, outputs: EvaluationStep, batch, batch_idx, dataloader_idx=0
    ) -> None:
        if outputs.trained is not None:
            self._trained.add(outputs.trained)
        if outputs.untrained is not None:
            self._untrained.add(outputs.untrained)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: STAlignModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            when = "validate"
        else:
            when = "untrained" if trainer.sanity_checking else f"epoch{trainer.current_epoch:03d}"
        self._finish(trainer, pl_module, when)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: STAlignModule) -> None:
        self._finish(trainer, pl_module, "test")

    def _finish(self, trainer: Trainer, module: STAlignModule, when: str) -> None:
        trained, untrained = self._trained.gather(module), self._untrained.gather(module)
        if trainer.is_global_zero:
            self._say_absent(trained)
        run = Path(trainer.default_root_dir)
        figures = run / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        data: STAlignData = trainer.datamodule
        slides = sorted(data.held_out)[trainer.global_rank :: trainer.world_size]
        own = [self.report(data, slide, trained, untrained, figures, when) for slide in slides]
        reports = list(_from_all_ranks(trainer, own))
        rows = [row for report in reports for row in report.rows]
        if trainer.is_global_zero:
            for note in (note for report in reports for note in report.notes):
                print(note)
            merge_results(run / "results.json", rows, provenance(data, run), module.step_of_weights)
            self._show(trainer, [path for report in reports for path in report.figures])
        self._log(module, rows)

    def _say_absent(self, trained: Table | None) -> None:
        """Once a run."""
        absent = [name for name in self.trained_fields if trained is not None and not trained.has(name)]
        if absent and not self._said_absent:
            self._said_absent = True
            print(f"{type(self).__name__}: the model has no {', '.join(absent)} embedding; its rows are left out")

    def _log(self, module: STAlignModule, rows: list[Row]) -> None:
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
            if hasattr(logger, "log_image"):  # wandb
                for path in figures:
                    logger.log_image(f"figures/{path.stem.rsplit('-', 1)[0]}", [str(path)])


def _from_all_ranks(trainer: Trainer, own: list[SlideReport]) -> Iterator[SlideReport]:
    """Every rank's reports, on every rank, in the order of the slides."""
    if trainer.world_size == 1:
        return iter(own)
    import torch.distributed as dist

    gathered: list[list[SlideReport] | None] = [None] * trainer.world_size
    dist.all_gather_object(gathered, own)
    rounds = max(len(part) for part in gathered)
    return (part[number] for number in range(rounds) for part in gathered if number < len(part))
