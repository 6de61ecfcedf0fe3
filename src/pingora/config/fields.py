"""How single values of pingora.toml are read.

Each function takes what TOML gave, or raises ValueError that says what was expected.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Meta

from pingora.choices import INSTANCE_NAME, TOKEN, WANTED_INSTANCE_NAME
from pingora.config.units import SIZE, TIME, parse_size, parse_time, shown
from pingora.limits import DAY, DESCRIPTORS_LEAST, DESCRIPTORS_MOST, MEMORY_LEAST
from pingora.listening import remedy_for
from pingora.load_balancing.endpoints import is_numeric
from pingora.supervisor.board import WORKERS_MOST
from pingora.supervisor.processors import auto_workers
from pingora.tls.targets import PORTS, has_port
from pingora.via import WANTED_IN_VIA, is_received_by
from pingora_c.upstream.address import parse_address, parse_host_port

WEIGHT_MAX = 65535
FIELD_NAME = re.compile(TOKEN)
FRAMING = {  # what the proxy says about each message: names that ErrorPages refuses
    *("connection", "keep-alive", "proxy-connection", "te", "upgrade"),
    *("content-length", "content_length", "transfer-encoding", "transfer_encoding"),
}
KEY = re.compile(f"client_ip|uri|host|header:{TOKEN}")
NAME = re.compile(INSTANCE_NAME)
HOOK = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def parsed(function: Callable[[Any], Any]) -> Meta:
    """Mark a field as read by a function."""
    return Meta(extra={"parse": function})


def one_of(*names: str) -> Meta:
    """Mark a field as one of some words."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"expected {words(names)}")
        return value

    return parsed(parse)


def words(names: Sequence[str]) -> str:
    """Write some words, of which one is expected."""
    quoted = [f'"{name}"' for name in names]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def parse_text(value: Any, expected: str) -> str:
    """Give a text, or raise ValueError with what was expected."""
    if not isinstance(value, str):
        raise ValueError(f"expected {expected}")
    return value


def parse_flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def parse_path(value: Any) -> str:
    """Read a text that is not empty, such as the path of a file."""
    if not isinstance(value, str) or not value:
        raise ValueError("expected a text that is not empty")
    return value


def parse_listen(value: Any) -> str:
    """Read where to listen."""
    text = parse_text(value, 'an address such as ":8080", "127.0.0.1:8080" or "unix:/run/pingora.sock"')
    check_address(text, lambda: parse_address(text, is_listen=True), remedy_for(text))
    return text


def check_address(text: str, check: Callable[[], Any], remedy: str = "") -> None:
    """Run a check whose message begins with the address, and leave that out: the place is known."""
    try:
        check()
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"address {text!r}: ") + remedy) from None


def parse_endpoint(value: Any) -> str:
    """Read an upstream's address; a name is not resolved yet."""
    text = parse_text(value, 'an address such as "10.0.0.1:8080", "https://app.internal" or "unix:/run/app.sock"')
    scheme, separator, rest = text.partition("://")
    if separator and scheme not in PORTS:
        raise ValueError("expected http://, https://, h2c://, grpc:// or grpcs://")
    if "?" in text:
        raise ValueError("expected no options behind the address, they stand in [upstreams.tls]")
    address = rest.removesuffix("/") if separator else text
    if separator and not has_port(address):
        address = f"{address}:{PORTS[scheme]}"
    if "/" in address and not address.startswith("unix:"):
        raise ValueError("expected no path behind host:port")
    check_address(
        address,
        lambda: (address.startswith("unix:") or is_numeric(parse_host_port(address)[0])) and parse_address(address),
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
    module, _, name = value.partition(":")
    if module.endswith(".py"):
        raise ValueError(f'expected the module without .py: write "{module.removesuffix(".py")}:{name}"')
    return value


def parse_workers(value: Any) -> int:
    """Read a number of processes; "auto" is one for each processor that this one may use."""
    if value == "auto":
        return min(auto_workers(), WORKERS_MOST)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= WORKERS_MOST:
        raise ValueError(f'expected "auto" or a whole number from 0 to {WORKERS_MOST}')
    return value


def seconds_of(value: Any) -> float:
    """Give a time in seconds, NaN for what is none."""
    seconds = parse_time(value) if isinstance(value, str) else value
    return seconds if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else math.nan


def parse_grace(value: Any) -> float:
    """Read a time that may be 0."""
    seconds = seconds_of(value)
    if not 0 <= seconds <= DAY:
        raise ValueError(f"expected 0 to {DAY} {TIME}")
    return float(seconds)


def parse_seconds(value: Any) -> float:
    """Read a time above 0."""
    seconds = seconds_of(value)
    if not 0.01 <= seconds <= DAY:
        raise ValueError(f"expected 0.01 to {DAY} {TIME}")
    return float(seconds)


def parse_lifetime(value: Any) -> int:
    """Read a time in whole seconds; how long it may be is checked where it is used."""
    seconds = seconds_of(value)
    if seconds % 1 != 0:
        raise ValueError(f"expected {TIME}, of whole seconds")
    return int(seconds)


def parse_interval(value: Any) -> float | None:
    """Read a time above 0, or "none"."""
    return None if value == "none" else parse_seconds(value)


def parse_count(value: Any) -> int:
    """Read a number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise ValueError("expected a whole number from 1 to 1000")
    return value


def parse_health_host(value: Any) -> str:
    """Read the Host of a health check."""
    if not isinstance(value, str) or not re.fullmatch("[!-~]+", value):
        raise ValueError('expected a host such as "app.internal"')
    return value


def parse_health_path(value: Any) -> str:
    """Read the path of a health check."""
    if not isinstance(value, str) or not re.fullmatch("/[!-~]*", value):
        raise ValueError('expected a path such as "/health"')
    return value


def parse_statuses(value: Any) -> list[int]:
    """Read some statuses."""
    expected = "expected an array of statuses from 100 to 599"
    if not isinstance(value, list) or not value:
        raise ValueError(expected)
    for one in value:
        if type(one) is not int or not 100 <= one <= 599:
            raise ValueError(f"{expected}, not {shown(one)}")
    return value


def parse_most(value: Any) -> int:
    """Read a number that may be 0: no limit."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError("expected a whole number, 0 for no limit")
    return value


def parse_memory(value: Any) -> int:
    """Read a size that may be 0: no limit."""
    size = parse_size(value) if isinstance(value, str) else value
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 63:
        raise ValueError(f"expected {SIZE}, 0 for no limit")
    if 0 < size < MEMORY_LEAST:
        raise ValueError('expected 0 for no limit, or at least "64MiB"; a number counts bytes: write "512MiB"')
    return size


def parse_descriptors(value: Any) -> int:
    """Read a number of descriptors."""
    if isinstance(value, bool) or not isinstance(value, int) or not DESCRIPTORS_LEAST <= value <= DESCRIPTORS_MOST:
        raise ValueError(f"expected a whole number from {DESCRIPTORS_LEAST} to {DESCRIPTORS_MOST}")
    return value


def parse_name(value: Any) -> str:
    """Read the name of an instance, which is that of a file."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(WANTED_INSTANCE_NAME)
    return value


def parse_network(value: Any) -> str:
    """Read a network of proxies in front."""
    text = parse_text(value, 'a network such as "10.0.0.0/8" or "::1"')
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'expected a network such as "10.0.0.0/8" or "::1": {error}') from None
    return text


def parse_via(value: Any) -> str:
    """Read the name of a proxy in Via."""
    if not isinstance(value, str) or not is_received_by(value):
        raise ValueError(WANTED_IN_VIA)
    return value


def parse_field_name(value: Any) -> str:
    """Read the name of a header field."""
    if not isinstance(value, str) or not FIELD_NAME.fullmatch(value):
        raise ValueError('expected the name of a header field, such as "X-Reason"')
    if value.lower() in FRAMING:
        raise ValueError('expected a header field that the proxy does not write itself, such as "X-Reason"')
    return value
