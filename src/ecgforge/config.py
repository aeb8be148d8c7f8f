"""Configurations: frozen dataclasses to and from TOML and JSON, strictly.

A setting comes from three places and the later one wins: the preset (a dataclass instance), the user's TOML
file, `--set key=value`. A key or value that does not fit is an error that names where it came from.
"""

import dataclasses
import difflib
import json
import math
import os
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ecgforge.errors import ConfigError

T = TypeVar("T")

_PLAIN_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain nested dicts, ready for JSON; tuples become lists."""
    return {item.name: _plain(getattr(config, item.name)) for item in dataclasses.fields(config) if item.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def from_dict(cls: type[T], mapping: Mapping[str, Any], *, where: str = "") -> T:
    """The configuration of class `cls` that `mapping` describes; keys left out take the class's defaults.

    TOML has no null: in a field of type `X | None` the word "none" stands for None.

    Args:
        cls: A dataclass with fields of bool, int, float, str, Literal, tuple, `X | None`, or of such classes.
        mapping: Nested keys and values as TOML or JSON gives them. An int is taken where a float is expected;
            nothing else is converted.
        where: Name of the source for messages: a file name, "--set".

    Raises:
        ConfigError: unknown or missing key, wrong type, or a value the class itself refuses.
    """
    return _read_dataclass(cls, mapping, _Place(where))


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where in which source a value stands; written in front of every message."""

    source: str
    key: str = ""

    def inside(self, key: str) -> "_Place":
        return _Place(self.source, f"{self.key}.{key}" if self.key else key)

    def item(self, number: int) -> "_Place":
        return _Place(self.source, f"{self.key}[{number}]")

    def error(self, message: str) -> ConfigError:
        return ConfigError(": ".join(filter(None, (self.source, self.key, message))))


def _read_dataclass(cls: type[T], mapping: Any, place: _Place) -> T:
    if not isinstance(mapping, Mapping):
        raise place.error(f"expected a table of settings, got {_shown(mapping)}")
    fields = {item.name: item for item in dataclasses.fields(cast(Any, cls)) if item.init}
    for key in mapping:
        if key not in fields:
            raise place.inside(str(key)).error(f"unknown key{_suggest(str(key), fields)}")
    for name, item in fields.items():
        needed = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if needed and name not in mapping:
            raise place.inside(name).error("required key is missing; add it")
    hints = get_type_hints(cls)
    values = {key: _read_value(hints[key], value, place.inside(key)) for key, value in mapping.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise place.error(str(error)) from error


def _read_value(kind: Any, value: Any, place: _Place) -> Any:
    """`value` as the annotated type `kind`, or an error that names `place`."""
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(cast(type[Any], kind), value, place)
    if origin in (Union, types.UnionType):
        return _read_union(kind, value, place)
    if origin is Literal:
        return _read_literal(kind, value, place)
    if origin is tuple:
        return _read_tuple(kind, value, place)
    if kind not in _PLAIN_NAMES:
        raise TypeError(f"{place.key}: configurations know no fields of type {kind}")
    if kind is float and type(value) is int:
        value = float(value)
    # type() and not isinstance: True is an int to isinstance.
    if type(value) is not kind:
        raise place.error(f"expected {_expected(kind)}, got {_shown(value)}")
    if kind is float and not math.isfinite(value):
        raise place.error(f"expected a finite number, got {value}")
    return value


def _read_union(kind: Any, value: Any, place: _Place) -> Any:
    options = get_args(kind)
    if types.NoneType in options and (value is None or value == "none"):
        return None
    options = tuple(option for option in options if option is not types.NoneType)
    if len(options) == 1:
        return _read_value(options[0], value, place)
    if all(map(dataclasses.is_dataclass, options)):
        return _read_value(_option_of_kind(options, value, place), value, place)
    for option in options:
        try:
            return _read_value(option, value, place)
        except ConfigError:
            continue
    raise place.error(f"expected {_expected(kind)}, got {_shown(value)}")


def _option_of_kind(options: Sequence[type[Any]], value: Any, place: _Place) -> type[Any]:
    """Which of several dataclasses a table describes: each has a field `kind` whose default is its name."""
    kinds = {option.kind: option for option in options}
    if not isinstance(value, Mapping):
        raise place.error(f"expected a table of settings, got {_shown(value)}")
    word = value.get("kind")
    if word not in kinds:
        raise place.inside("kind").error(f"expected one of {', '.join(kinds)}, got {_shown(word)}")
    return kinds[cast(str, word)]


def _read_literal(kind: Any, value: Any, place: _Place) -> Any:
    options = get_args(kind)
    for option in options:
        if type(option) is type(value) and option == value:
            return option
    raise place.error(f"expected {_expected(kind)}, got {_shown(value)}{_suggest(str(value), map(str, options))}")


def _read_tuple(kind: Any, value: Any, place: _Place) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(value, (list, tuple)):
        raise place.error(f"expected {_expected(kind)}, got {_shown(value)}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise place.error(f"expected {_expected(kind)}, got {len(value)} values: {_shown(value)}")
    return tuple(
        _read_value(kind, item, place.item(i)) for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _expected(kind: Any) -> str:
    """A type in words, for messages."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple and args[-1] is Ellipsis:
        return f"a list such as [1, 2], each {_expected(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)} values ({', '.join(map(_expected, args))})"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_expected, args))
    if kind is types.NoneType:
        return '"none"'
    return _PLAIN_NAMES.get(kind, f"a table ({getattr(kind, '__name__', kind)})")


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def _suggest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known are {', '.join(names)}"


def load_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        ConfigError: the file cannot be read or is not TOML; the message names the file and the line.
    """
    return _load(path, tomllib.loads, "TOML")


def load_json(path: Path) -> dict[str, Any]:
    """The settings in a JSON file, as `write_json` leaves them.

    Raises:
        ConfigError: the file cannot be read or holds no JSON object.
    """
    return _load(path, json.loads, "JSON")


def _load(path: Path, parse: Callable[[str], Any], language: str) -> dict[str, Any]:
    try:
        settings = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"expected a {language} file, cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError, JSONDecodeError and UnicodeDecodeError are all ValueErrors
        raise ConfigError(f"{path}: expected {language}, got something else: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected a table of settings, got {_shown(settings)}")
    return settings


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it: tables are merged key by key, anything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        nested = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if nested else value  # type: ignore[arg-type]
    return merged


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Nested settings from ["training.learning_rate=1e-3", "data.folds=[1,2]", ...]; a later one wins.

    Values are read as TOML values; what is none, such as a bare word, is text.

    Raises:
        ConfigError: an entry is not of the form key=value.
    """
    settings: dict[str, Any] = {}
    for entry in overrides:
        name, equals, text = entry.partition("=")
        keys = [key.strip() for key in name.split(".")]
        if not equals or not all(keys):
            raise ConfigError(f"--set: expected key=value such as training.learning_rate=1e-3, got {entry!r}")
        change: Any = _parse_value(text.strip())
        for key in reversed(keys):
            change = {key: change}
        settings = merge(settings, change)
    return settings


def _parse_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = parsed.pop("value")
    # No configuration holds dates: 2024-01-31 is a text. A second key came from a line break in the text.
    return value if not parsed and isinstance(value, (bool, int, float, str, list, dict)) else text


def resolve(preset: T, *, file: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """The configuration to use: the preset, changed by the user's file, changed by --set entries.

    Raises:
        ConfigError: the file or an entry does not fit the preset's class; the message names which.
    """
    # Each source is read on its own, so that an error names the one that brought it.
    if file is not None:
        preset = from_dict(type(preset), merge(to_dict(preset), load_toml(file)), where=str(file))
    if overrides:
        preset = from_dict(type(preset), merge(to_dict(preset), parse_overrides(overrides)), where="--set")
    return preset


def write_json(config: Any, path: Path) -> None:
    """Write a configuration (a dataclass or its dict) as readable JSON; the file is complete or not there."""
    settings = to_dict(config) if dataclasses.is_dataclass(config) else config
    text = json.dumps(settings, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
