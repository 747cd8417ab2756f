"""JSON values as the types that a signature names: what a parser does for a command line, for a file, without one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from stalign_pl.errors import ConfigError

PLAIN = (bool, int, float, str, NoneType)
WRONG = object()
"""What a reader returns for a value that is not of its type."""


def read_arguments(
    made: Callable[..., Any], values: Mapping[str, Any], where: str, given: Iterable[str] = ()
) -> dict[str, Any]:
    """Read the arguments of `made`, each as the type that its signature names.

    Args:
        made: a class or function with typed arguments.
        values: argument -> its JSON value.
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
    return {name: read_typed(value, hints[name], f"{where}.{name}") for name, value in values.items()}


def read_typed(value: object, hint: object, where: str) -> object:
    """Read a JSON value as a type: plain types, lists, tuples, dictionaries, literals, unions, dataclasses.

    Args:
        value: as JSON has it.
        hint: the type.
        where: for messages.

    Raises:
        ConfigError: it is not of that type.
    """
    kind = get_origin(hint)
    if hint is Any:
        return value
    if kind in (Union, UnionType):
        made = _read_union(value, hint, where)
    elif kind in (tuple, list, dict):
        made = _read_container(value, hint, where)
    elif isinstance(hint, type) and is_dataclass(hint):
        made = hint(**read_arguments(hint, value, where)) if isinstance(value, dict) else WRONG
    else:
        made = _read_plain(value, hint)
    if made is WRONG:
        raise ConfigError(f"{where} is {value!r}; {_name_type(hint)} is wanted")
    return made


def _read_union(value: object, hint: object, where: str) -> object:
    for option in get_args(hint):
        with suppress(ConfigError):  # not this one; if none, the union's own message
            return read_typed(value, option, where)
    return WRONG


def _read_container(value: object, hint: object, where: str) -> object:
    kind, of = get_origin(hint), get_args(hint)
    if kind is tuple and isinstance(value, list):
        hints = of[:1] * len(value) if of[1:] == (...,) else of
        if len(hints) == len(value):
            return tuple(read_typed(each, one, where) for each, one in zip(value, hints, strict=True))
    if kind is list and isinstance(value, list):
        return [read_typed(each, of[0], where) for each in value]
    if kind is dict and isinstance(value, dict):
        return {read_typed(key, of[0], where): read_typed(each, of[1], where) for key, each in value.items()}
    return WRONG


def _read_plain(value: object, hint: object) -> object:
    if get_origin(hint) is Literal and value in get_args(hint):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if hint in PLAIN and type(value) is hint else WRONG


def _name_type(hint: object) -> str:
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "").replace("stalign_pl.", "")
