"""STAlign: up to four streams, two fusions, six embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

from torch import Tensor, nn

from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.features import STREAMS
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.batch.inputs import ModelInputs
from stalign_pl.errors import ConfigError, check_sizes
from stalign_pl.models.dropout import number_dropouts
from stalign_pl.models.frozen import find_frozen_prefixes
from stalign_pl.models.fusion import Fusion
from stalign_pl.models.image.stream import TimmStream

FUSED = {"spot": ("spot_image", "spot_gene"), "niche": ("niche_image", "niche_gene")}
"""Scale -> its streams, image and gene."""


class STAlign(nn.Module):
    """The multi-scale image-gene model.

    The parts are given as factories: a configuration names a class and its own options, and STAlign adds what follows
    from the model or the data (tokens, width, genes). A stream may be null: the model lacks it.

    Args:
        genes: the panel, G genes; comes from the data.
        spot_image: (tokens, width) -> image stream.
        niche_image: (tokens, width) -> image stream.
        spot_gene: (genes, tokens, width) -> module of (expression [B, G], measured [B, G]) to [B, tokens, width].
        niche_gene: (genes, tokens, width) -> module of (expression [B, G], measured [B, G]) to [B, tokens, width].
        fusion: (tokens, width) -> module of (image tokens, gene tokens) to one vector; called for each scale that has
            a stream; spot and niche share no weights. Null fuses nothing.
        tokens: number of tokens of each stream.
        width: width of a token.
        dim: width of the unimodal embeddings.

    Raises:
        ConfigError: no stream at all, or a fusion that reads a modality whose stream a scale lacks.
    """

    def __init__(
        self,
        genes: GenePanel,
        spot_image: Callable[[int, int], TimmStream] | None,
        niche_image: Callable[[int, int], TimmStream] | None,
        spot_gene: Callable[[GenePanel, int, int], nn.Module] | None,
        niche_gene: Callable[[GenePanel, int, int], nn.Module] | None,
        fusion: Callable[[int, int], Fusion] | None,
        tokens: int = 8,
        width: int = 512,
        dim: int = 512,
    ) -> None:
        super().__init__()
        check_sizes("STAlign", tokens=tokens, width=width, dim=dim)
        self.genes = genes
        self.dim = dim
        self.spot_image = spot_image and spot_image(tokens, width)
        self.niche_image = niche_image and niche_image(tokens, width)
        self.spot_gene = spot_gene and spot_gene(genes, tokens, width)
        self.niche_gene = niche_gene and niche_gene(genes, tokens, width)
        if not any(self.has(stream) for stream in STREAMS):
            raise ConfigError(f"STAlign: {', '.join(STREAMS)} are all null; at least one is wanted")
        self.fuse_spot = self._make_fusion("spot", fusion, tokens, width)
        self.fuse_niche = self._make_fusion("niche", fusion, tokens, width)
        for stream in ("spot_image", "niche_image", "spot_gene", "niche_gene"):
            setattr(self, f"pool_{stream}", MeanToken(width, dim) if self.has(stream) else None)
        number_dropouts(self)

    def _make_fusion(
        self, scale: str, fusion: Callable[[int, int], Fusion] | None, tokens: int, width: int
    ) -> Fusion | None:
        if fusion is None or not any(self.has(stream) for stream in FUSED[scale]):
            return None
        made = fusion(tokens, width)
        absent = [f"{scale}_{modality}" for modality in made.reads if not self.has(f"{scale}_{modality}")]
        if absent:
            present = next(stream for stream in FUSED[scale] if self.has(stream))
            raise ConfigError(
                f"model.fusion: {type(made).__name__} reads {' and '.join(made.reads)}, and model.{absent[0]} is null. "
                f"Take {'ImageOnly' if present == f'{scale}_image' else 'GeneOnly'}, or fusion: null"
            )
        return made

    def has(self, name: str) -> bool:
        """Whether the model has the parts of an embedding, named as in `Embeddings`."""
        return getattr(self, f"fuse_{name}" if name in FUSED else name) is not None

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the model's parts that an embedding depends on."""
        if name not in FUSED:
            return name, f"pool_{name}"
        fusion = f"fuse_{name}"
        return fusion, *(f"{name}_{modality}" for modality in getattr(self, fusion).reads)

    def learn_only(self, names: Iterable[str]) -> list[str]:
        """Freeze all parts that none of the embeddings depends on.

        For a loss of some embeddings alone: DistributedDataParallel waits for the gradient of every parameter that
        requires one.

        Args:
            names: embeddings, as in `Embeddings`.

        Returns:
            Names of the frozen parts.
        """
        reached = {part for name in names for part in self.parts_of(name)}
        frozen = [(name, part) for name, part in self.named_children() if name not in reached]
        for _, part in frozen:
            part.requires_grad_(False)
        return [name for name, _ in frozen]

    @property
    def widths(self) -> dict[str, int]:
        """Field of `Embeddings` -> its width, for those that the model can compute."""
        streams = {name: self.dim for name in STREAMS if self.has(name)}
        return streams | {name: getattr(self, f"fuse_{name}").out for name in FUSED if self.has(name)}

    @property
    def frozen_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the state-dict keys that a checkpoint may leave out: frozen weights that have a source."""
        return find_frozen_prefixes(self)

    def forward(self, inputs: ModelInputs, names: Iterable[str] | None = None) -> Embeddings:
        """Embed a batch.

        Args:
            inputs: images and genes of B spots; the input of a stream that the model lacks is ignored.
            names: embeddings to compute; None is all. Parts that only other embeddings need are not run.

        Returns:
            Embeddings; a field is None if the model lacks its parts, it was not requested, or its input is missing.
        """
        wanted = {field.name for field in fields(Embeddings)} if names is None else set(names)
        wanted = {name for name in wanted if self.has(name)}
        reached = {part for name in wanted for part in self.parts_of(name)}
        tokens: dict[str, Tensor] = {}
        for stream in STREAMS:
            given = inputs.of(stream)
            if stream in reached and given[0] is not None:
                tokens[stream] = getattr(self, stream)(*given)
        return Embeddings(
            **{stream: self._pool(stream, tokens) if stream in wanted else None for stream in STREAMS},
            **{scale: self._fuse(scale, tokens) if scale in wanted else None for scale in FUSED},
        )

    def _pool(self, stream: str, tokens: dict[str, Tensor]) -> Tensor | None:
        return getattr(self, f"pool_{stream}")(tokens[stream]) if stream in tokens else None

    def _fuse(self, scale: str, tokens: dict[str, Tensor]) -> Tensor | None:
        fusion = getattr(self, f"fuse_{scale}")
        present = [f"{scale}_{modality}" in tokens for modality in fusion.reads]
        enough = any(present) if fusion.alone else all(present)
        return fusion(*(tokens.get(stream) for stream in FUSED[scale])) if enough else None


class MeanToken(nn.Sequential):
    """A stream's embedding: the mean over its tokens, LayerNorm, linear width -> dim."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, dim))

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, dim] of tokens [B, T, W]."""
        return super().forward(input.mean(1))
