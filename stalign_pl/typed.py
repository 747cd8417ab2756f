"""JSON values as the types that a signature names: what a parser does for a command line, for a file, without one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from stalign_pl.errors import ConfigError

PLAIN = (bool, int, float, str, NoneType)


def typed_arguments(
    made: Callable[..., Any], values: Mapping[str, Any], where: str, given: Iterable[str] = ()
) -> dict[str, Any]:
    """The arguments of `made`, each as the type that its signature names.

    Args:
        made: a class or function with typed arguments.
        where: for messages.
        given: names of arguments that come from elsewhere.

    Raises:
        ConfigError: a name that `made` does not take, one that it needs and `values` lacks, or a value of another type.
    """
    parameters = {name: each for name, each in inspect.signature(made).parameters.items() if name not in set(given)}
    extra = sorted(values.keys() - parameters.keys())
    missing = [name for name, each in parameters.items() if each.default is each.empty and name not in values]
    if extra or missing:
        raise ConfigError(f"{where}: unknown arguments {extra}, missing {missing}; known: {', '.join(parameters)}")
    hints = get_type_hints(made.__init__ if inspect.isclass(made) else made)
    return {name: typed(value, hints[name], f"{where}.{name}") for name, value in values.items()}


def typed(value: Any, hint: Any, where: str) -> Any:
    """`value`, read from JSON, as `hint`: plain types, lists, tuples, dictionaries, literals, unions, dataclasses.

    Raises:
        ConfigError: it is not of that type.
    """
    kind, of = get_origin(hint), get_args(hint)
    wrong = ConfigError(f"{where} is {value!r}; {_named(hint)} is wanted")
    if hint is Any:
        return value
    if kind in (Union, UnionType):
        for option in of:
            try:
                return typed(value, option, where)
            except ConfigError:  # not this one; if none, the union's own message
                continue
        raise wrong
    if is_dataclass(hint) and isinstance(value, dict):
        return hint(**typed_arguments(hint, value, where))
    if kind is tuple and isinstance(value, list):
        hints = of[:1] * len(value) if of[1:] == (...,) else of
        if len(hints) == len(value):
            return tuple(typed(each, one, where) for each, one in zip(value, hints, strict=True))
    if kind is list and isinstance(value, list):
        return [typed(each, of[0], where) for each in value]
    if kind is dict and isinstance(value, dict):
        return {typed(key, of[0], where): typed(each, of[1], where) for key, each in value.items()}
    if kind is Literal and value in of:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint in PLAIN and type(value) is hint:
        return value
    raise wrong


def _named(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "").replace("stalign_pl.", "")
