"""Checks before a run begins: of settings that contradict each other, the data or the model."""

from __future__ import annotations

from jsonargparse import Namespace

from stalign_pl.callbacks import GenePredictionCallback, SpatialDomainCallback
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.tables import LOWER_IS_BETTER
from stalign_pl.models import STAlign, draws_from_generator, has_train_mode_batchnorm
from stalign_pl.training.module import STAlignModule

EVALUATIONS = (SpatialDomainCallback, GenePredictionCallback)


def refuse_settings(options: Namespace) -> None:
    """Check the options that can be checked without model and data.

    Args:
        options: of the subcommand, as parsed.

    Raises:
        ConfigError: accumulated batches, which would change the loss; a run without a name; `checkpoint.monitor` is no
            figure that is logged, or `checkpoint.mode` is the wrong direction for it.
    """
    if (options.trainer.accumulate_grad_batches or 1) != 1:
        raise ConfigError(
            f"trainer.accumulate_grad_batches is {options.trainer.accumulate_grad_batches}: accumulating batches "
            f"does not enlarge the pool of negatives, so it is not the loss of the larger batch. Leave it at 1, "
            f"set data.composition to the batch you want and model.micro_batch to the rows that fit the device"
        )
    if not options.run.name.strip("./ "):
        raise ConfigError(f"run.name is {options.run.name!r}; it names the run's folder in {options.run.folder}")
    if options.checkpoint.monitor is not None:
        _refuse_monitor(options.checkpoint.monitor, options.checkpoint.mode)


def _refuse_monitor(monitor: str, mode: str) -> None:
    """Raise ConfigError for a figure that does not exist, or a direction that would keep the worst checkpoint."""
    if monitor.startswith("train/"):
        return
    known = {f"val/{name}": metric for callback in EVALUATIONS for metric, name in callback.logged.items()}
    metrics = [metric for figure, metric in known.items() if monitor == figure or monitor.startswith(f"{figure}/")]
    if not metrics:
        raise ConfigError(f"checkpoint.monitor is {monitor!r}; known: {', '.join(known)}, and train/...")
    better = "min" if metrics[0] in LOWER_IS_BETTER else "max"
    if mode != better:
        raise ConfigError(
            f"checkpoint.monitor is {monitor} and checkpoint.mode is {mode}, which would keep the worst checkpoint "
            f"as best. Set checkpoint.mode: {better}"
        )


def refuse_other_sizes(model: STAlign, data: STAlignData) -> None:
    """Check that the data's pictures have the size that the image encoders take, before the first batch would fail.

    Args:
        model: to be run.
        data: that it is run on.

    Raises:
        ConfigError: the sizes differ.
    """
    for scale, stream in (("spot", model.spot_image), ("niche", model.niche_image)):
        size = data.pictures[scale].size
        if stream is not None and stream.size != size:
            raise ConfigError(
                f"data.{scale}_size is {size}, and the model's {scale}_image takes pictures of {stream.size} px "
                f"(its argument size): make them the same"
            )


def refuse_fit(options: Namespace, module: STAlignModule, data: STAlignData) -> None:
    """Check what would otherwise fail only after training has begun.

    Args:
        options: of `fit`, as parsed.
        module: to be trained.
        data: that it is trained on.

    Raises:
        ConfigError: the loss needs clusters and their table is missing; `checkpoint.monitor` is never logged for this
            model; or `trainer.deterministic` is set and parts of the model depend on the number of processes.
    """
    if options.trainer.deterministic:
        _refuse_inexact(module.model, synchronised=bool(options.trainer.sync_batchnorm))
    if module.objective.needs_clusters and data.clusters is None:
        raise ConfigError(
            f"data.clusters is null, and {type(module.objective).__name__} draws its negatives by clusters. "
            f"Make the table: python -m stalign_pl clusters {data.shard_set.folder} --out FILE"
        )
    _refuse_absent_figure(options.checkpoint.monitor or "", module.model)


def _refuse_absent_figure(monitor: str, model: STAlign) -> None:
    """Raise ConfigError if checkpoints are chosen by a figure that this model cannot log."""
    pictures = model.has("spot_image") or model.has("niche_image")
    for figures, wanted, there in (
        (SpatialDomainCallback.logged, "fused niche embedding", model.has("niche")),
        (GenePredictionCallback.logged, "image embedding", pictures),
    ):
        if not there and monitor.startswith(tuple(f"val/{name}" for name in figures.values())):
            raise ConfigError(
                f"checkpoint.monitor is {monitor!r}, which is scored on the {wanted}, and model.model has none. "
                f"Set it to another figure or to train/loss, or to null with checkpoint.save_top_k: 0"
            )


def _refuse_inexact(model: STAlign, synchronised: bool) -> None:
    """Check for parts that depend on the number of processes: BatchNorm in training, draws from a process's generator.

    Args:
        model: to be trained.
        synchronised: whether BatchNorm sees the rows of all processes.

    Raises:
        ConfigError: the model has such parts.
    """
    streams = [name for name, part in model.named_children() if has_train_mode_batchnorm(part)]
    if streams and not synchronised:
        raise ConfigError(
            f"trainer.deterministic with BatchNorm in train mode in model.model.{', '.join(streams)}: it "
            f"normalises by each process's own rows. Take an encoder with GroupNorm or LayerNorm, or freeze it"
        )
    drawing = [name for name, part in model.named_children() if draws_from_generator(part)]
    if drawing:
        raise ConfigError(
            f"trainer.deterministic with dropout or stochastic depth in model.model.{', '.join(drawing)} that "
            f"draws from each process's own generator. Set its rate to 0 (model_args: drop_rate, drop_path_rate), "
            f"or take stalign_pl.models.SpotDropout, which draws by spot"
        )
