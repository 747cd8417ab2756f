"""State of the data in a checkpoint: what a model was trained on, and whether a configuration may continue from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stalign_pl.data.epoch.clusters import ClusterTable
from stalign_pl.data.genes.vocabulary import Vocabulary
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError, join_names
from stalign_pl.files import hash_json


def hash_content(slides: Iterable[SlideShard], clusters: ClusterTable | None, views: Mapping[str, int]) -> str:
    """Hash what a model is trained on: the slides' files and the table of clusters, wherever they lie, and the views.

    Args:
        slides: the training slides.
        clusters: their table of clusters, if one is read.
        views: stream -> cached views, of the streams that read these in place of augmentation.
    """
    files = {slide.record.name: slide.record.files for slide in slides}
    sums = {name: {file: facts["sha256"] for file, facts in of.items()} for name, of in files.items()}
    content: dict[str, Any] = {"slides": sums, "clusters": None if clusters is None else clusters.sha256()}
    if views:
        content["views"] = dict(views)
    return hash_json(content)


def record_data(
    vocabulary: Vocabulary, slides: Iterable[SlideShard], content: str, views: Mapping[str, int]
) -> dict[str, Any]:
    """Make the data's state for a checkpoint.

    Args:
        vocabulary: the model's genes.
        slides: the training slides.
        content: of `hash_content`.
        views: as in `hash_content`.
    """
    return {
        "vocabulary": vocabulary.digest(),
        "n_genes": len(vocabulary),
        "content": content,
        "views": dict(views),
        "train_slides": sorted(slide.record.name for slide in slides),
    }


def refuse_other_data(state: Mapping[str, Any], vocabulary: Vocabulary, held_out: Iterable[SlideShard]) -> None:
    """Check that a model may continue, or be evaluated, on this data.

    Args:
        state: of `STAlignData.state_dict`, from the checkpoint.
        vocabulary: this configuration's.
        held_out: this configuration's validation and test slides.

    Raises:
        ConfigError: another vocabulary, whose columns the same weights would take for other genes; or a model trained
            on slides that are held out here, such as another fold's, whose genes may be the same.
    """
    if state["vocabulary"] != vocabulary.digest():
        raise ConfigError(
            f"the checkpoint was trained on another vocabulary ({state['n_genes']} genes, digest "
            f"{state['vocabulary'][:12]}) than this configuration gives ({len(vocabulary)} genes, digest "
            f"{vocabulary.digest()[:12]}): use the same shards, training patients and data.genes"
        )
    trained = sorted({slide.record.name for slide in held_out}.intersection(state["train_slides"]))
    if trained:
        raise ConfigError(
            f"the checkpoint was trained on {len(trained)} slides that this configuration holds out: "
            f"{join_names(trained)}. Use the split, fold or patients that it was trained with"
        )
