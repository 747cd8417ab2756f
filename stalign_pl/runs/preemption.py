"""Preemption: SIGTERM or SIGUSR1 ends a run between two batches, with a checkpoint and an exit status of its own."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

from lightning import Callback, LightningModule, Trainer

from stalign_pl.runs.last_checkpoint import LastCheckpoint
from stalign_pl.runs.signals import Handler, Preempted, handlers, restore_handlers, set_handler


class Preemption(Callback):
    """Takes the signals of `fit`; the handler sets a flag, and all processes act on it at the same place.

    After a batch they agree whether any of them was signalled; if so `last.ckpt` is saved, the batch's row logged, and
    the run left. An evaluation runs to its end: a signal within it, or at an epoch's last batch, is taken when the
    evaluation's results and the epoch's checkpoint are on disk (in the middle of an epoch: a batch after it). Before
    training (in the pass over the untrained model) the run is left after the pass's next batch, with nothing saved. A
    further signal changes nothing. A run whose last epoch is over ends as usual.

    Args:
        last: saves the checkpoint, as the last of all callbacks.

    Raises:
        Preempted: on every process.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self._last = last
        self._signal: int | None = None
        self._leaving = False
        self._before: dict[int, Handler] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """From here on the processes can speak with each other.

        Lightning puts its own handlers on between two hooks. They broadcast from within: with several processes a run
        then hangs, and has saved nothing. It has no option to leave them off.
        """
        trainer._signal_connector.register_signal_handlers = lambda: None
        self._before = handlers()
        set_handler(self._note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        restore_handlers(self._before)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A run that is being left is not hurried by a further signal."""
        if not isinstance(exception, Preempted):
            restore_handlers(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.sanity_checking:
            self._leave_if_asked(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave_if_asked(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave_if_asked(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self._leaving = self._last.wanted = self._is_asked(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leaving = False  # what was saved does not hold this evaluation

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """The batch before has been logged by now."""
        if self._leaving:
            self._leave(trainer)

    def _is_asked(self, trainer: Trainer) -> bool:
        """Whether any process was; the same on all. One small sum, beside the one of Lightning's own loop."""
        return trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)

    def _leave_if_asked(self, trainer: Trainer) -> None:
        if self._is_asked(trainer):
            self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            name = "a signal to another process" if self._signal is None else signal.Signals(self._signal).name
            last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
            saved = f"goes on from {last} with --ckpt_path last" if last.exists() else "nothing was saved yet"
            print(f"\n{name}: stopped at step {trainer.global_step}; {saved}", flush=True)
        raise Preempted(together=True)
