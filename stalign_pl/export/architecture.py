"""A model as data: the names of its classes and their arguments. Only classes listed here are ever built from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.errors import ConfigError
from stalign_pl.models.frozen import Source
from stalign_pl.models.fusion import ABFN, Concat, Gated, GeneOnly, ImageOnly
from stalign_pl.models.genes import GeneMLP, NicheGeneTransformer
from stalign_pl.models.image.stream import TimmStream
from stalign_pl.models.scgpt.stream import ScGPT
from stalign_pl.models.stalign import STAlign
from stalign_pl.typed import read_arguments

PREFIX = "stalign_pl.models."
IMAGE: tuple[type[nn.Module], ...] = (TimmStream,)
GENE: tuple[type[nn.Module], ...] = (GeneMLP, NicheGeneTransformer, ScGPT)
FUSION: tuple[type[nn.Module], ...] = (ABFN, Concat, Gated, ImageOnly, GeneOnly)
ROLES = {"spot_image": IMAGE, "niche_image": IMAGE, "spot_gene": GENE, "niche_gene": GENE, "fusion": FUSION}
"""Argument of STAlign -> the classes that it may be."""

GIVEN = ("genes", "tokens", "width")
"""Arguments that STAlign passes to its parts."""


class PublishedEncoder(Protocol):
    """A stream whose encoder can start with published weights."""

    @staticmethod
    def source(arguments: Mapping[str, Any]) -> Source | None:
        """Return where the first weights come from; None if they are random."""
        ...

    def detach_weights(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments that build the stream without loading its weights."""
        ...

    @staticmethod
    def attach_weights(arguments: Mapping[str, Any], source: Source) -> dict[str, Any]:
        """Return detached arguments with the weights of a source again."""
        ...


class PublishedFolder(Protocol):
    """A stream whose argument `folder` holds files that it needs beside its weights.

    Attributes:
        COMPANIONS: names of these files.
    """

    COMPANIONS: ClassVar[tuple[str, ...]]

    @staticmethod
    def set_folder(arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Return detached arguments with the folder of the files."""
        ...


ENCODERS: tuple[type[PublishedEncoder], ...] = (TimmStream, ScGPT)
FOLDERS: tuple[type[PublishedFolder], ...] = (ScGPT,)

Kind = TypeVar("Kind")


def _find(cls: type[nn.Module], kinds: tuple[type[Kind], ...]) -> type[Kind] | None:
    """Return the class itself, as one of `kinds`; None if it is not among them."""
    return next((kind for kind in kinds if kind is cls), None)


@dataclass(frozen=True)
class PartSpec:
    """A class of the model and its arguments, as in JSON.

    Attributes:
        cls: one of ROLES, or STAlign itself.
        arguments: all but those that STAlign passes.
    """

    cls: type[nn.Module]
    arguments: dict[str, Any]

    def factory(self, where: str) -> partial[nn.Module]:
        """Return the factory that STAlign takes.

        Args:
            where: of the part in the configuration, for messages.

        Raises:
            ConfigError: arguments that the class does not take, or of another type.
        """
        return partial(self.cls, **read_arguments(self.cls, self.arguments, where, GIVEN))

    @property
    def encoder(self) -> type[PublishedEncoder] | None:
        """The class, if its encoder can start with published weights."""
        return _find(self.cls, ENCODERS)

    @property
    def published_folder(self) -> type[PublishedFolder] | None:
        """The class, if it needs files beside its weights."""
        return _find(self.cls, FOLDERS)

    def source(self) -> Source | None:
        """Return where the first weights of the part's encoder come from; None if they are random."""
        return None if self.encoder is None else self.encoder.source(self.arguments)

    def to_json(self) -> dict[str, Any]:
        """Return it as in a configuration."""
        return {"class_path": f"{PREFIX}{self.cls.__name__}", "init_args": self.arguments}

    @classmethod
    def from_json(cls, value: object, known: tuple[type[nn.Module], ...], where: str) -> PartSpec:
        """Read a part as in a configuration.

        Args:
            value: `class_path` and possibly `init_args`.
            known: the classes that it may name.
            where: of the part in the configuration, for messages.

        Raises:
            ConfigError: other keys, or a class that is not among `known`.
        """
        if not isinstance(value, dict) or not {"class_path"} <= value.keys() <= {"class_path", "init_args"}:
            raise ConfigError(f"{where} is {value!r}; a class_path and its init_args are wanted")
        classes = {f"{PREFIX}{each.__name__}": each for each in known}
        name, arguments = value["class_path"], value.get("init_args") or {}
        if not isinstance(name, str) or name not in classes:
            raise ConfigError(f"{where}.class_path is {name!r}; known: {', '.join(classes)}")
        if not isinstance(arguments, dict):
            raise ConfigError(f"{where}.init_args is {arguments!r}; arguments of {name} by name are wanted")
        return cls(classes[name], dict(arguments))


@dataclass(frozen=True)
class Architecture:
    """A model's classes and arguments, except its genes.

    Attributes:
        sizes: STAlign's own arguments (tokens, width, dim).
        parts: by argument of STAlign; None for a stream, or the fusion, that the model lacks.
    """

    sizes: dict[str, Any]
    parts: dict[str, PartSpec | None]

    def build(self, genes: GenePanel) -> STAlign:
        """Build the model, in train mode, with the weights of its encoders' sources, all others random.

        Args:
            genes: the panel.

        Raises:
            ConfigError: arguments that a class does not take, of another type or of a value that it refuses; see also
                the classes.
        """
        sizes = read_arguments(STAlign, self.sizes, "model", ("genes", *ROLES))
        factories: dict[str, Any] = {role: part and part.factory(f"model.{role}") for role, part in self.parts.items()}
        try:
            return STAlign(genes=genes, **factories, **sizes)
        except (ValueError, RuntimeError, TypeError, ArithmeticError) as error:  # torch's and timm's, for bad values
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"the model cannot be built with its arguments: {reason}") from error

    def to_json(self) -> dict[str, Any]:
        """Return it as in a configuration."""
        parts = {role: part and part.to_json() for role, part in self.parts.items()}
        return {"class_path": f"{PREFIX}STAlign", "init_args": {**parts, **self.sizes}}

    @classmethod
    def from_json(cls, value: object) -> Architecture:
        """Read `model.model` of a run's config.yaml, or the result of `to_json`.

        Raises:
            ConfigError: another class than STAlign, a part that is missing, or one of a class that is not in ROLES.
        """
        whole = PartSpec.from_json(value, (STAlign,), "model")
        missing = sorted(ROLES.keys() - whole.arguments.keys())
        if missing:
            raise ConfigError(f"model: {', '.join(missing)} missing; a part that the model is without is null")
        parts = {
            role: None if given is None else PartSpec.from_json(given, known, f"model.{role}")
            for role, known in ROLES.items()
            for given in (whole.arguments[role],)
        }
        return cls({name: given for name, given in whole.arguments.items() if name not in ROLES}, parts)

    def with_arguments(self, arguments: Mapping[str, dict[str, Any]]) -> Architecture:
        """Return it with the arguments of some parts replaced.

        Args:
            arguments: role -> all arguments of that part.
        """
        parts = {
            role: part if part is None or role not in arguments else PartSpec(part.cls, dict(arguments[role]))
            for role, part in self.parts.items()
        }
        return Architecture(self.sizes, parts)
