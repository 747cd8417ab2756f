"""Gene regression beside the contrasts: linear heads from the embeddings to the expression they should hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from stalign_pl.batch.inputs import GeneTargets
from stalign_pl.distributed import World
from stalign_pl.errors import ConfigError
from stalign_pl.objectives.three_level import LossTerms

if TYPE_CHECKING:
    from stalign_pl.batch.embeddings import Embeddings
    from stalign_pl.batch.gene_panel import GenePanel

Scale = Literal["panel", "none"]
ImageTarget = Literal["spot", "niche"]

SOURCES = {
    "image_to_gene": ("spot_image", "niche_image"),
    "niche_to_gene": ("niche",),
    "spot_to_gene": ("spot",),
}
"""Regression -> the fields of `Embeddings` that its head reads, side by side, those that the model has."""

CLAMP = 10.0
"""Standardised targets stay within +- this, as what the gene encoders read does."""


@dataclass(frozen=True)
class RegressionConfig:
    """Weights of the regressions in the loss, 0 or more; one of weight 0 is not built. They are added to the contrasts,
    whose weights make up 1.

    Attributes:
        image_to_gene: from the spot and niche image embeddings side by side.
        niche_to_gene: from the fused niche embedding to the niche's expression: with a narrow fusion an autoencoder of
            the niche.
        spot_to_gene: from the fused spot embedding to the spot's expression.
        image_target: whose expression `image_to_gene` is of.
        scale: "panel" divides each gene by its sd over the training spots, so that all genes count alike; "none"
            leaves the centred log expression, in which the variable genes count most.
    """

    image_to_gene: float = 0.0
    niche_to_gene: float = 0.0
    spot_to_gene: float = 0.0
    image_target: ImageTarget = "spot"
    scale: Scale = "panel"

    def __post_init__(self) -> None:
        for name in SOURCES:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"model.regression.{name} is {getattr(self, name)}; a weight, 0 or more, is wanted")
        for name, known in (("image_target", get_args(ImageTarget)), ("scale", get_args(Scale))):
            if getattr(self, name) not in known:
                raise ConfigError(f"model.regression.{name} is {getattr(self, name)!r}; known: {', '.join(known)}")

    @property
    def weights(self) -> dict[str, float]:
        """Those above 0."""
        return {name: getattr(self, name) for name in SOURCES if getattr(self, name) > 0}

    def target(self, name: str) -> ImageTarget:
        """Whose expression a regression is of."""
        return self.image_target if name == "image_to_gene" else "niche" if name == "niche_to_gene" else "spot"


class GeneRegression(nn.Module):
    """Mean squared error of linear heads, over the measured genes of a row and the valid rows of the global batch.

    A row counts alike whatever its slide measured. Value and gradient are those of `LossTerms`: exact on any number of
    processes, in micro-batches too.

    Args:
        config: which heads there are.
        genes: the panel, G genes, whose mean and sd scale the targets.
        widths: field of `Embeddings` -> its width, of those that the model has.

    Raises:
        ConfigError: a weight above 0 for a regression from embeddings that the model has not.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, config: RegressionConfig, genes: GenePanel, widths: dict[str, int]) -> None:
        super().__init__()
        self.config = config
        self.sources = {name: [field for field in SOURCES[name] if field in widths] for name in config.weights}
        for name, fields in self.sources.items():
            if not fields:
                raise ConfigError(
                    f"model.regression.{name} is {config.weights[name]}, and the model has no {SOURCES[name][0]} "
                    f"embedding (model.model: a stream or the fusion is null); set it to 0"
                )
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(sum(widths[field] for field in fields), len(genes))
                for name, fields in self.sources.items()
            }
        )
        self.register_buffer("mean", torch.tensor(genes.mean), persistent=False)
        self.register_buffer("sd", torch.tensor(genes.sd), persistent=False)

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Fields of `Embeddings` that are read."""
        return tuple(field for fields in self.sources.values() for field in fields)

    def forward(self, terms: LossTerms, embeddings: Embeddings, targets: GeneTargets, valid: Tensor) -> LossTerms:
        """`terms` with the regressions in `total`, and `loss_<name>` among the diagnostics; a collective.

        Args:
            terms: of the contrasts, whose `total` this rank's backward pass starts from.
            embeddings: of this rank's rows.
            targets: their expression.
            valid: bool [b]; rows that are not count for nothing, whatever they hold.
        """
        if not self.heads:
            return terms
        world = World.current()
        rows = world.sum_over_ranks(valid.sum()).clamp(min=1)
        with torch.autocast(valid.device.type, enabled=False):
            sums = [self._compute_squared_error(name, embeddings, targets, valid) for name in self.heads]
            local = world.size * torch.stack(sums) / rows
        losses = world.sum_over_ranks(local) / world.size
        share, value = self._weigh(local), self._weigh(losses)
        named = {f"loss_{name}": loss for name, loss in zip(self.heads, losses.unbind(), strict=True)}
        return replace(
            terms, total=terms.total + share + (value - share).detach(), diagnostics={**terms.diagnostics, **named}
        )

    def _weigh(self, losses: Tensor) -> Tensor:
        """Scalar from [heads]."""
        terms = (self.config.weights[name] * loss for name, loss in zip(self.heads, losses.unbind(), strict=True))
        return sum(terms, losses.new_zeros(()))

    def _compute_squared_error(self, name: str, embeddings: Embeddings, targets: GeneTargets, valid: Tensor) -> Tensor:
        """Scalar: the sum over valid rows of the mean over measured genes."""
        head, wanted = self.heads[name], self._scale(getattr(targets, self.config.target(name)))
        given = torch.cat([getattr(embeddings, field) for field in self.sources[name]], dim=1)
        given = given.to(next(head.parameters()).dtype)
        seen = targets.measured & valid[:, None]
        # The embedding is put to 0, too: a NaN times a gradient of 0 would reach the head's weights.
        apart = torch.where(seen, head(torch.where(valid[:, None], given, 0)) - wanted, 0)
        return (apart.square().sum(1) / seen.sum(1).clamp(min=1)).sum()

    def _scale(self, expression: Tensor) -> Tensor:
        """[b, G]: centred, and by the config divided by each gene's sd."""
        centred = expression - self.mean
        return centred if self.config.scale == "none" else (centred / self.sd).clamp(-CLAMP, CLAMP)
