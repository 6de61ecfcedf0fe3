"""The model of pingora.toml: every table is a struct, every key a field with its default.

A field's type says how its value is read: `Annotated[…, parsed(function)]` by that function, which raises ValueError
that says what was expected. docs/configuration.md describes the keys; a test compares both.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct, field

from pingora.config.problems import Source
from pingora.config.units import TIME, parse_time
from pingora.limits import DAY, Limits
from pingora.load_balancing import is_numeric
from pingora.retry import RetryPolicy
from pingora.server import ACCESS_FORMATS, FORWARDED_FIELDS, LOG_LEVELS
from pingora.supervisor.board import WORKERS_MOST
from pingora.supervisor.options import auto_workers
from pingora_c.upstream.address import parse_address, parse_host_port

WEIGHT_MAX = 65535
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 §5.6.2
FIELD_NAME = re.compile(TOKEN)
KEY = re.compile(f"client_ip|uri|host|header:{TOKEN}")
HOOK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def parsed(function: Callable[[Any], Any]) -> Meta:
    """Mark a field as read by a function."""
    return Meta(extra={"parse": function})


def one_of(*names: str) -> Meta:
    """Mark a field as one of some words."""
    quoted = [f'"{name}"' for name in names]
    expected = f"expected {', '.join(quoted[:-1])} or {quoted[-1]}"

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(expected)
        return value

    return parsed(parse)


def parse_text(value: Any, expected: str) -> str:
    """Give a text, or raise ValueError with what was expected."""
    if not isinstance(value, str):
        raise ValueError(f"expected {expected}")
    return value


def parse_listen(value: Any) -> str:
    """Read where to listen."""
    text = parse_text(value, 'an address such as ":8080", "127.0.0.1:8080" or "unix:/run/pingora.sock"')
    check_address(text, lambda: parse_address(text, is_listen=True))
    return text


def check_address(text: str, check: Callable[[], Any]) -> None:
    """Run a check whose message begins with the address, and leave that out: the place is known."""
    try:
        check()
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"address {text!r}: ")) from None


def parse_endpoint(value: Any) -> str:
    """Read an upstream's address; a name is not resolved yet."""
    text = parse_text(value, 'an address such as "10.0.0.1:8080", "app.internal:8080" or "unix:/run/app.sock"')
    check_address(
        text,
        lambda: (text.startswith("unix:") or is_numeric(parse_host_port(text)[0])) and parse_address(text),
    )
    return text


def parse_weight(value: Any) -> int:
    """Read a weight."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= WEIGHT_MAX:
        raise ValueError(f"expected a whole number from 1 to {WEIGHT_MAX}")
    return value


def parse_key(value: Any) -> str:
    """Read what Ketama hashes."""
    expected = 'expected "client_ip", "uri", "host" or "header:NAME"'
    if not isinstance(value, str) or not KEY.fullmatch(value):
        raise ValueError(expected)
    return value


def parse_hook(value: Any) -> str:
    """Read the name of a hook class; whether it is there is seen later."""
    expected = 'expected "module:Class", such as "gateway:Gateway" for the class Gateway in gateway.py'
    if not isinstance(value, str) or not HOOK.fullmatch(value):
        raise ValueError(expected)
    return value


def parse_workers(value: Any) -> int:
    """Read a number of processes; "auto" is one for each processor that this one may use."""
    if value == "auto":
        return min(auto_workers(), WORKERS_MOST)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= WORKERS_MOST:
        raise ValueError(f'expected "auto" or a whole number from 0 to {WORKERS_MOST}')
    return value


def parse_grace(value: Any) -> float:
    """Read a time that may be 0."""
    seconds = parse_time(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= DAY:
        raise ValueError(f"expected 0 to {DAY} {TIME}")
    return float(seconds)


def parse_network(value: Any) -> str:
    """Read a network of proxies in front."""
    text = parse_text(value, 'a network such as "10.0.0.0/8" or "::1"')
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'expected a network such as "10.0.0.0/8" or "::1": {error}') from None
    return text


def parse_field_name(value: Any) -> str:
    """Read the name of a header field."""
    if not isinstance(value, str) or not FIELD_NAME.fullmatch(value):
        raise ValueError('expected the name of a header field, such as "X-Reason"')
    return value


class ListenerTable(Struct, frozen=True):
    """Where clients connect. In short its address."""

    SHORT: ClassVar[str] = "address"
    address: Annotated[str, parsed(parse_listen)]


class EndpointTable(Struct, frozen=True):
    """An upstream. In short its address."""

    SHORT: ClassVar[str] = "address"
    address: Annotated[str, parsed(parse_endpoint)]
    weight: Annotated[int, parsed(parse_weight)] = 1


class UpstreamsTable(Struct, frozen=True):
    """Where requests go, and how one of them is selected."""

    endpoints: list[EndpointTable]
    selection: Annotated[str, one_of("round_robin", "ketama")] = "round_robin"
    key: Annotated[str, parsed(parse_key)] | None = None


class HookTable(Struct, frozen=True):
    """A proxy class of the user's and what its constructor gets. In short the class."""

    SHORT: ClassVar[str] = "class"
    cls: Annotated[str, parsed(parse_hook)] = field(name="class")
    options: dict[str, Any] = {}


class LogsTable(Struct, frozen=True):
    """What is written to stdout and stderr."""

    access: Annotated[str, one_of(*ACCESS_FORMATS)] = "combined"
    level: Annotated[str, one_of(*LOG_LEVELS)] = "info"


class Config(Struct, frozen=True, kw_only=True):
    """A checked configuration. `source` is the file, for what is found wrong with it later."""

    source: Source
    listeners: list[ListenerTable]
    upstreams: UpstreamsTable | None = None
    hook: HookTable | None = None
    limits: Limits = Limits()
    retry: RetryPolicy | None = None
    workers: Annotated[int, parsed(parse_workers)] = 1
    grace: Annotated[float, parsed(parse_grace)] = 5.0
    trusted: list[Annotated[str, parsed(parse_network)]] = []
    forwarded: Annotated[str, one_of(*FORWARDED_FIELDS)] = "x-forwarded"
    defer_accept: bool = True
    logs: LogsTable = LogsTable()
    error_pages: dict[str, Any] = {}
    reason_header: Annotated[str, parsed(parse_field_name)] | None = None


NOT_KEYS = {"source"}
