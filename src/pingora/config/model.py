"""The model of pingora.toml: every table is a struct, every key a field with its default.

A field's type says how its value is read: `Annotated[…, parsed(function)]` by that function of `fields`.
docs/configuration.md describes the keys; a test compares both.
"""

from typing import Annotated, Any, ClassVar

from msgspec import Struct, field

from pingora.choices import ACCESS_FORMATS, CLIENT_CERT_FIELDS, FORWARDED_FIELDS, LOG_LEVELS
from pingora.config.fields import (
    one_of,
    parse_count,
    parse_descriptors,
    parse_endpoint,
    parse_field_name,
    parse_grace,
    parse_health_host,
    parse_health_path,
    parse_hook,
    parse_interval,
    parse_key,
    parse_listen,
    parse_memory,
    parse_most,
    parse_name,
    parse_network,
    parse_seconds,
    parse_statuses,
    parse_via,
    parse_weight,
    parse_workers,
    parsed,
)
from pingora.config.problems import Source
from pingora.config.tls import Flag, ListenerTlsTable, Text, UpstreamTlsTable
from pingora.limits import Limits
from pingora.load_balancing import PassiveHealth
from pingora.peer import PeerOptions
from pingora.retry import RetryPolicy
from pingora.supervisor.options import Options

Time = Annotated[float, parsed(parse_grace)]

SELECTIONS = ("round_robin", "random", "least_connections", "ketama", "fnv_hash")


class ProxyProtocolTable(Struct, frozen=True):
    """Who introduces clients. In short the networks."""

    SHORT: ClassVar[str] = "trusted"
    trusted: list[Annotated[str, parsed(parse_network)]]
    required: Flag = True


class ListenerTable(Struct, frozen=True):
    """Where clients connect. In short its address."""

    SHORT: ClassVar[str] = "address"
    address: Annotated[str, parsed(parse_listen)]
    tls: ListenerTlsTable | None = None
    proxy_protocol: ProxyProtocolTable | None = None


class EndpointTable(Struct, frozen=True):
    """An upstream. In short its address."""

    SHORT: ClassVar[str] = "address"
    address: Annotated[str, parsed(parse_endpoint)]
    weight: Annotated[int, parsed(parse_weight)] = 1


class HealthTable(Struct, frozen=True):
    """How endpoints are asked whether they work."""

    kind: Annotated[str, one_of("http", "tcp")] = "http"
    path: Annotated[str, parsed(parse_health_path)] = "/"
    host: Annotated[str, parsed(parse_health_host)] | None = None
    statuses: Annotated[list[int], parsed(parse_statuses)] = field(default_factory=lambda: [200])
    interval: Annotated[float, parsed(parse_seconds)] = 5.0
    timeout: Annotated[float, parsed(parse_seconds)] = 1.0
    consecutive_success: Annotated[int, parsed(parse_count)] = 1
    consecutive_failure: Annotated[int, parsed(parse_count)] = 1
    parallel: Annotated[int, parsed(parse_count)] = 16


class UpstreamsTable(Struct, frozen=True):
    """Where requests go, and how one of them is selected."""

    endpoints: list[EndpointTable]
    selection: Annotated[str, one_of(*SELECTIONS)] = "round_robin"
    key: Annotated[str, parsed(parse_key)] | None = None
    resolve_interval: Annotated[float | None, parsed(parse_interval)] = None
    peer: PeerOptions = PeerOptions()
    passive: PassiveHealth = PassiveHealth()
    health: HealthTable | None = None
    tls: UpstreamTlsTable | None = None


class HookTable(Struct, frozen=True):
    """A proxy class of the user's and what its constructor gets. In short the class."""

    SHORT: ClassVar[str] = "class"
    cls: Annotated[str, parsed(parse_hook)] = field(name="class")
    options: dict[str, Any] = {}


class LogsTable(Struct, frozen=True):
    """What is written to stdout and stderr."""

    access: Annotated[str, one_of(*ACCESS_FORMATS)] = "combined"
    level: Annotated[str, one_of(*LOG_LEVELS)] = "info"
    access_file: Text | None = None
    error_file: Text | None = None


class Config(Struct, frozen=True, kw_only=True):
    """A checked configuration. `source` is the file, for what is found wrong with it later."""

    source: Source
    protocol: Annotated[str, one_of("http", "tcp")] = "http"
    listeners: list[ListenerTable]
    upstreams: UpstreamsTable | None = None
    hook: HookTable | None = None
    limits: Limits = Limits()
    retry: RetryPolicy | None = None
    workers: Annotated[int, parsed(parse_workers)] = Options.workers
    grace: Time = Options.grace
    drain: Time = Options.drain
    stuck_after: Time = Options.stuck_after
    ready_delay: Time = Options.ready_delay
    health: Annotated[str, parsed(parse_listen)] | None = None
    max_requests: Annotated[int, parsed(parse_most)] = Options.max_requests
    max_memory: Annotated[int, parsed(parse_memory)] = Options.max_memory
    descriptors: Annotated[int, parsed(parse_descriptors)] | None = None
    user: Text | None = None
    group: Text | None = None
    daemon: Flag = False
    name: Annotated[str, parsed(parse_name)] | None = None
    control: Text | None = None
    pid_file: Text | None = None
    trusted: list[Annotated[str, parsed(parse_network)]] = []
    forwarded: Annotated[str, one_of(*FORWARDED_FIELDS)] = "x-forwarded"
    client_cert: Annotated[str, one_of(*CLIENT_CERT_FIELDS)] = "off"
    via: Annotated[str, parsed(parse_via)] | None = None
    abort_on_half_close: Flag | None = None
    metrics: Annotated[str, parsed(parse_listen)] | None = None
    defer_accept: Flag = True
    logs: LogsTable = LogsTable()
    error_pages: dict[str, Any] = {}
    reason_header: Annotated[str, parsed(parse_field_name)] | None = None


NOT_KEYS = {"source", "transport"}
