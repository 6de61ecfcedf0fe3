"""Reads pingora.toml into the model and says everything that is wrong with it. Runs no code of the user's."""

import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import msgspec
from msgspec import Struct

from pingora.config.fields import words
from pingora.config.model import NOT_KEYS, Config, UpstreamsTable
from pingora.config.positions import Path, Place
from pingora.config.problems import Source, did_you_mean
from pingora.config.syntax import shown_at
from pingora.config.text import read_text
from pingora.config.units import SIZE, TIME, parse_size, parse_time, shown
from pingora.limits import RULES, Limits
from pingora.listening import listen_key
from pingora.retry import RetryPolicy
from pingora.usage import ConfigError

FAILED: Any = object()  # what became of a value that is wrong
EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", tuple: "an array of whole numbers"}
ONLY_HTTP = 'only protocol = "http" uses it'
RETRIES_OF_TCP = ("attempts", "total_timeout")
AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")


def read_config(path: str | FilePath, text: str | None = None) -> Config:
    """Read and check a file, or `text` in its place. Imports, opens and resolves nothing. Raises ConfigError."""
    source, tables = read_tables(path, text)
    source.check()
    return Config(source=source, **tables)


def read_tables(path: str | FilePath, text: str | None = None) -> tuple[Source, dict[str, Any]]:
    """Read a file into the tables of the model, without those that are wrong, which its source notes.

    Raises ConfigError if it is not even TOML.
    """
    if text is None:
        text = read_text(FilePath(path))
    source = Source(str(path), text)
    try:
        source.values = tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{path}:1:1: nested too deeply"]) from None
    except ValueError as error:
        found = AT_LINE.search(str(error))
        end = source.positions.place(len(text.replace("\r\n", "\n")))
        place = Place(int(found[1]), int(found[2])) if found else end
        message = AT_LINE.sub("", str(error)).removesuffix(" (at end of document)")
        source.add(place, (), message + shown_at(source.text, place, message))
        source.check()
    tables = Reader(source).fields(Config, source.values, ())
    tables = {name: value for name, value in tables.items() if value is not FAILED}
    check_together(source, tables)
    return source, tables


class Reader:
    """Converts values by the types of the model and notes what does not fit."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def table(self, kind: type[Struct], values: Any, path: Path) -> Any:
        """Read a table into a struct; a value of another type is short for one key of some tables."""
        fields = self.fields(kind, values, path)
        return FAILED if FAILED in fields.values() else kind(**fields)

    def fields(self, kind: type[Struct], values: Any, path: Path) -> dict[str, Any]:
        """Read the fields of a struct, FAILED for each that is wrong or lacks."""
        short = getattr(kind, "SHORT", None)
        is_short = short is not None and not isinstance(values, dict)
        if is_short:
            values = {short: values}
        elif not isinstance(values, dict):
            return {"": self._wrong(path, "expected a table", values)}
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind) if field.name not in NOT_KEYS}
        self._unknown_keys(values, fields, path)
        result = {}
        for name, field in fields.items():
            if name in values:
                place = path if is_short else (*path, name)
                result[field.name] = self._convert(field.type, values[name], place)
            elif field.required:
                self._source.key_problem((*path, name), "missing")
                result[field.name] = FAILED
        return result

    def _unknown_keys(self, values: dict[str, Any], known: typing.Iterable[str], path: Path) -> None:
        for name in values:
            if name not in known:
                hint = did_you_mean(name, known) or elsewhere(name)
                self._source.key_problem((*path, name), f"unknown key{hint}")

    def _convert(self, kind: Any, value: Any, path: Path) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Annotated:
            try:
                return arguments[1].extra["parse"](value)
            except ValueError as error:
                return self._wrong(path, str(error), value)
        if origin in (typing.Union, types.UnionType):
            return self._convert(next(part for part in arguments if part is not types.NoneType), value, path)
        if origin is list:
            return self._array(arguments[0], value, path)
        if origin is dict:
            return self._by_name(arguments[1], value, path)
        if dataclasses.is_dataclass(kind):
            return self._settings(kind, value, path)
        return self.table(kind, value, path)

    def _array(self, kind: Any, value: Any, path: Path) -> Any:
        if not isinstance(value, list):
            return self._wrong(path, "expected an array", value)
        items = [self._convert(kind, item, (*path, index)) for index, item in enumerate(value)]
        return FAILED if any(item is FAILED for item in items) else items

    def _by_name(self, kind: Any, values: Any, path: Path) -> Any:
        """Read a table whose keys are names of the user's; of any values, or of tables of one kind."""
        if not isinstance(values, dict):
            return self._wrong(path, "expected a table", values)
        if kind is Any:
            return values
        items = {name: self._convert(kind, value, (*path, name)) for name, value in values.items()}
        return FAILED if any(item is FAILED for item in items.values()) else items

    def _settings(self, kind: Any, values: Any, path: Path) -> Any:
        """Read a table into a dataclass whose constructor checks its fields, such as Limits."""
        if not isinstance(values, dict):
            return self._wrong(path, "expected a table", values)
        hints = typing.get_type_hints(kind)
        known = [field.name for field in dataclasses.fields(kind) if field.name not in NOT_KEYS]
        self._unknown_keys(values, known, path)
        result = {
            name: self._setting(kind, name, hints[name], value, (*path, name))
            for name, value in values.items()
            if name in known
        }
        if any(value is FAILED for value in result.values()):
            return FAILED
        try:
            return kind(**result)
        except ValueError as error:
            self._source.value_problem(path, str(error))
            return FAILED

    def _setting(self, kind: Any, name: str, hint: Any, value: Any, path: Path) -> Any:
        try:
            converted = with_unit(unit_of(kind, name, hint), none_of(kind, name, hint), value)
            converted = msgspec.convert(converted, hint, strict=True)
            kind(**{name: converted})
        except msgspec.ValidationError:
            odd = [one for one in value if type(one) is not int] if is_array(hint) and isinstance(value, list) else []
            which = f", not {shown(odd[0])}" if odd else ""
            return self._wrong(path, f"expected {expected_of(kind, name, hint)}{which}", value)
        except ValueError as error:
            return self._wrong(path, in_toml(str(error), name), value)
        return converted

    def _wrong(self, path: Path, message: str, value: Any) -> Any:
        self._source.value_problem(path, f"{message}, got {shown(value)}")
        return FAILED


def unit_of(kind: Any, name: str, hint: Any) -> str:
    """Say what a setting counts: "seconds", "bytes" or something without units."""
    if kind is Limits and name in RULES:
        return RULES[name].unit
    return "seconds" if float in plain_types(hint) else "bytes" if name.endswith(("_bytes", "_window")) else ""


def none_of(kind: Any, name: str, hint: Any) -> Any:
    """Give what stands for "none" in a setting; FAILED if it cannot be none."""
    also = RULES[name].also if kind is Limits and name in RULES else ()
    return None if types.NoneType in plain_types(hint) else also[0] if also else FAILED


def plain_types(hint: Any) -> tuple[Any, ...]:
    """Give the parts of a union, or the type itself."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def is_array(hint: Any) -> bool:
    """Say whether a setting is an array, which is one of whole numbers."""
    return typing.get_origin(hint) is tuple


def with_unit(unit: str, none: Any, value: Any) -> Any:
    """Turn a text with a unit into a number; what is no such text stays. Raises ValueError."""
    if value == "none" and none is not FAILED:
        return none
    if isinstance(value, str) and unit == "seconds":
        return parse_time(value)
    if isinstance(value, str) and unit.startswith("bytes"):
        return parse_size(value)
    return value


def expected_of(kind: Any, name: str, hint: Any) -> str:
    """Say what type of value a setting takes."""
    unit = unit_of(kind, name, hint)
    if unit.startswith(("seconds", "bytes")):
        return TIME if unit == "seconds" else SIZE
    kind = next(part for part in plain_types(hint) if part is not types.NoneType)
    origin = typing.get_origin(kind) or kind
    return words(typing.get_args(kind)) if origin is typing.Literal else EXPECTED[origin]


def in_toml(message: str, name: str) -> str:
    """Turn the message of a dataclass into one about a file, which has no None."""
    message = message.rpartition(f"{name}: ")[2].partition(", got ")[0]
    return re.sub(r",? or None( for none)?", ', or "none"', message)


def check_together(source: Source, tables: dict[str, Any]) -> None:
    """Note what is wrong with values that are right by themselves."""
    listeners, upstreams = tables.get("listeners"), tables.get("upstreams")
    if listeners is not None and not listeners:
        source.value_problem(("listeners",), "expected at least one address")
    seen: dict[Any, int] = {}
    for index, listener in enumerate(listeners or ()):
        first = seen.setdefault(listen_key(listener.address), index)
        if first != index:
            source.value_problem(("listeners", index), f"the same address as listeners[{first}]")
    health, metrics = tables.get("health"), tables.get("metrics")
    if health is not None and (key := listen_key(health)) in seen:
        source.value_problem(("health",), f"the same address as listeners[{seen[key]}]")
    if metrics is not None and not metrics.endswith(":0"):  # any port
        if (key := listen_key(metrics)) in seen:
            source.value_problem(("metrics",), f"the same address as listeners[{seen[key]}]")
        elif health is not None and key == listen_key(health):
            source.value_problem(("metrics",), "the same address as health; give it another port")
    is_tcp = tables.get("protocol") == "tcp"
    for name in ("error_pages", "reason_header"):
        if is_tcp and name in source.values:
            source.key_problem((name,), ONLY_HTTP)
    check_retry(source, tables.get("retry"), is_tcp)
    if upstreams is None:
        if "hook" not in source.values and "upstreams" not in source.values:
            source.key_problem(("upstreams",), "missing: without a hook there is nothing else that says where to send")
        return
    check_upstreams(source, upstreams)


def check_upstreams(source: Source, upstreams: UpstreamsTable) -> None:
    """Note what is wrong with values of [upstreams] that are right by themselves."""
    written = source.values["upstreams"]
    if not upstreams.endpoints:
        source.value_problem(("upstreams", "endpoints"), "expected at least one address")
    hashes = upstreams.selection in ("ketama", "fnv_hash")
    if hashes and upstreams.key is None and "hook" not in source.values:
        message = f'{upstreams.selection} needs a key, such as key = "client_ip"'
        source.value_problem(("upstreams", "selection"), message)
    if not hashes and upstreams.key is not None:
        source.key_problem(("upstreams", "key"), 'only selection = "ketama" and "fnv_hash" use a key')
    health = upstreams.health
    if health is not None and health.kind == "tcp":
        for name in ("path", "host", "statuses"):
            if name in written["health"]:
                source.key_problem(("upstreams", "health", name), 'only kind = "http" uses it')
    passive = written.get("passive", {})
    if "longest_back_off" in passive and upstreams.passive.longest_back_off < upstreams.passive.back_off:
        source.value_problem(("upstreams", "passive", "longest_back_off"), "shorter than back_off; raise one of them")
    for name in ("ca", "crl"):
        if upstreams.tls is not None and not upstreams.tls.verify and name in written["tls"]:
            source.key_problem(("upstreams", "tls", name), "verify = false uses none; leave one of them out")


def check_retry(source: Source, retry: RetryPolicy | None, is_tcp: bool) -> None:
    """Note what is wrong with values of [retry] that are right by themselves."""
    if retry is None:
        return
    if retry.try_timeout and retry.total_timeout and retry.try_timeout > retry.total_timeout:
        source.value_problem(("retry", "try_timeout"), "longer than total_timeout; give a try less than all of them")
    for name in source.values["retry"] if is_tcp else ():
        if name not in RETRIES_OF_TCP:
            source.key_problem(("retry", name), ONLY_HTTP)


def keys_of(kind: Any = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the default of every key that is no table itself; `...` if there is no default."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        defaults = kind()
        names = [field.name for field in dataclasses.fields(kind) if field.name not in NOT_KEYS]
        yield from (((*path, name), getattr(defaults, name)) for name in names)
        return
    for field in msgspec.structs.fields(kind):
        if field.name in NOT_KEYS:
            continue
        inner = next(part for part in plain_types(field.type) if part is not types.NoneType)
        if typing.get_origin(inner) in (list, dict) and Any not in typing.get_args(inner):
            inner = typing.get_args(inner)[-1]  # the keys of a table of tables are the user's, and no part of the path
        if dataclasses.is_dataclass(inner) or (isinstance(inner, type) and issubclass(inner, Struct)):
            yield from keys_of(inner, (*path, field.encode_name))
        elif field.default_factory is not msgspec.NODEFAULT:
            yield (*path, field.encode_name), field.default_factory()
        else:
            yield (*path, field.encode_name), ... if field.required else field.default


def elsewhere(name: str) -> str:
    """Say where a key of this name belongs, as the end of a message; "" if there is none.

    A key that stands behind a table's header belongs to that table, which is easily forgotten.
    """
    tables = {path[:-1] for path, _ in keys_of() if path[-1] == name}
    tables |= {path[: path.index(name)] for path, _ in keys_of() if name in path[:-1]}
    if not tables:
        return ""
    table = min(tables)
    where = f"in [{'.'.join(table)}]" if table else "at the top, before the first table"
    return f", it belongs {where}"
