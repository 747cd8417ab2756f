"""A model as data: the names of its classes and their arguments. Only classes listed here are ever made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.errors import ConfigError
from stalign_pl.models.fusion import ABFN, Concat, Gated, GeneOnly, ImageOnly
from stalign_pl.models.genes import GeneMLP, NicheGeneTransformer
from stalign_pl.models.image.stream import TimmStream
from stalign_pl.models.scgpt.stream import ScGPT
from stalign_pl.models.stalign import STAlign
from stalign_pl.typed import typed_arguments

PREFIX = "stalign_pl.models."
IMAGE: tuple[type[nn.Module], ...] = (TimmStream,)
GENE: tuple[type[nn.Module], ...] = (GeneMLP, NicheGeneTransformer, ScGPT)
FUSION: tuple[type[nn.Module], ...] = (ABFN, Concat, Gated, ImageOnly, GeneOnly)
ROLES = {"spot_image": IMAGE, "niche_image": IMAGE, "spot_gene": GENE, "niche_gene": GENE, "fusion": FUSION}
"""Argument of STAlign -> the classes that it may name."""

GIVEN = ("genes", "tokens", "width")
"""What STAlign fills in for its parts."""


@dataclass(frozen=True)
class Part:
    """A class of the model and its arguments, as JSON has them.

    Attributes:
        cls: one of ROLES.
        arguments: those that the model does not fill in.

    Raises:
        ConfigError: arguments that the class does not take, or of another type.
    """

    cls: type[nn.Module]
    arguments: dict[str, Any]

    def factory(self, where: str) -> partial[nn.Module]:
        """What STAlign takes."""
        return partial(self.cls, **typed_arguments(self.cls, self.arguments, where, GIVEN))

    def to_json(self) -> dict[str, Any]:
        """As a configuration writes it."""
        return {"class_path": f"{PREFIX}{self.cls.__name__}", "init_args": self.arguments}

    @classmethod
    def from_json(cls, value: Any, known: tuple[type[nn.Module], ...], where: str) -> Part:
        """Raises ConfigError: not `class_path` and `init_args`, or a class that is not among `known`."""
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
    """What a model is built from, but for its genes.

    Attributes:
        sizes: STAlign's own arguments (tokens, width, dim).
        parts: by argument of STAlign; None is a stream, or the fusion, that the model is without.
    """

    sizes: dict[str, Any]
    parts: dict[str, Part | None]

    def build(self, genes: GenePanel) -> STAlign:
        """The model, in train mode, with the weights of its encoders' sources and else random ones.

        Raises:
            ConfigError: arguments that a class does not take, of another type or of a value that it refuses; see also
                the classes.
        """
        sizes = typed_arguments(STAlign, self.sizes, "model", ("genes", *ROLES))
        factories = {role: part and part.factory(f"model.{role}") for role, part in self.parts.items()}
        try:
            return STAlign(genes=genes, **factories, **sizes)
        except (
            ValueError,
            RuntimeError,
            TypeError,
            ArithmeticError,
        ) as error:  # torch's, timm's, of values that cannot be
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"the model cannot be built with its arguments: {reason}") from error

    def to_json(self) -> dict[str, Any]:
        """As a configuration writes it."""
        parts = {role: part and part.to_json() for role, part in self.parts.items()}
        return {"class_path": f"{PREFIX}STAlign", "init_args": {**parts, **self.sizes}}

    @classmethod
    def from_json(cls, value: Any) -> Architecture:
        """From `model.model` of a run's config.yaml, or from what `to_json` gave.

        Raises:
            ConfigError: another class than STAlign, a part that is missing, or one of a class that is not in ROLES.
        """
        whole = Part.from_json(value, (STAlign,), "model")
        missing = sorted(ROLES.keys() - whole.arguments.keys())
        if missing:
            raise ConfigError(f"model: {', '.join(missing)} missing; a part that the model is without is null")
        parts = {
            role: None if given is None else Part.from_json(given, known, f"model.{role}")
            for role, known in ROLES.items()
            for given in (whole.arguments[role],)
        }
        return cls({name: given for name, given in whole.arguments.items() if name not in ROLES}, parts)

    def with_arguments(self, arguments: Mapping[str, dict[str, Any]]) -> Architecture:
        """Some parts' arguments replaced, by role."""
        parts = {
            role: part if part is None or role not in arguments else Part(part.cls, dict(arguments[role]))
            for role, part in self.parts.items()
        }
        return Architecture(self.sizes, parts)
