"""Limits of client connections: their defaults, what range each has, and one message that names all that is wrong."""

import contextlib
import dataclasses
import resource
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a limit may be. `unit` is how a person reads it; `also` are values outside the range that mean "none"."""

    least: float
    most: float
    unit: str
    also: tuple[float | None, ...] = ()

    @property
    def is_whole(self) -> bool:
        """True if only a whole number makes sense."""
        return self.unit != "seconds"

    def __str__(self) -> str:
        others = "".join(f", or {value!r} for none" for value in self.also)
        return f"{self.least} to {self.most} {self.unit}{others}"

    def complaint(self, value: Any) -> str:
        """Return what is wrong with `value`, "" if nothing is."""
        if any(value is other or (value == other and not isinstance(value, bool)) for other in self.also):
            return ""
        wanted = int if self.is_whole else (int, float)
        # A NaN is in no range.
        if isinstance(value, bool) or not isinstance(value, wanted) or not self.least <= value <= self.most:
            return f"expected {self}, got {value!r}"
        return ""


DAY = 86400
MEMORY_LEAST = 64 << 20  # bytes that a worker may grow to; with less it would be replaced at once
DESCRIPTORS_LEAST = 64  # an idle worker has 30
DESCRIPTORS_MOST = 1 << 30  # what the kernel can be told to allow
RULES = {
    "handshake_timeout": Rule(0.001, DAY, "seconds"),
    "proxy_header_timeout": Rule(0.001, DAY, "seconds"),
    "head_timeout": Rule(0.001, DAY, "seconds"),
    "keep_alive": Rule(0.001, DAY, "seconds"),
    "body_timeout": Rule(0.001, DAY, "seconds"),
    "write_timeout": Rule(0.001, DAY, "seconds"),
    "tunnel_timeout": Rule(0.001, DAY, "seconds"),
    "tunnel_total_timeout": Rule(0.001, DAY, "seconds", also=(None,)),
    "message_timeout": Rule(0.001, DAY, "seconds", also=(None,)),
    "message_bytes": Rule(1, 10**9, "bytes"),
    "message_fragments": Rule(1, 10**9, "frames"),
    "head_bytes": Rule(256, 65536, "bytes"),
    "target_bytes": Rule(1, 65536, "bytes"),
    "fields": Rule(1, 256, "fields"),
    "hook_timeout": Rule(0.001, DAY, "seconds", also=(0,)),
    "blocked_after": Rule(0.01, DAY, "seconds", also=(None,)),
    "body_bytes": Rule(0, 10**12, "bytes", also=(None,)),
    "body_rate": Rule(1, 10**9, "bytes per second", also=(0,)),
    "chunk_extension_bytes": Rule(0, 10**9, "bytes"),
    "write_rate": Rule(1, 10**9, "bytes per second", also=(0,)),
    "buffered_bytes": Rule(1 << 20, 10**12, "bytes"),
    "connections": Rule(1, 10**6, "connections"),
    "client_connections": Rule(1, 10**6, "connections", also=(None,)),
    "connection_requests": Rule(1, 10**9, "requests", also=(None,)),
    "http2_streams": Rule(1, 10000, "streams", also=(0,)),
    "http2_window": Rule(1024, 1 << 24, "bytes"),
    "http2_resets": Rule(1, 10**6, "streams"),
}


def check_limits(limits: Any) -> None:
    """Raise ValueError that names every field of the dataclass `limits` that is of a wrong type or out of range."""
    complaints = []
    for field in dataclasses.fields(limits):
        if complaint := RULES[field.name].complaint(getattr(limits, field.name)):
            complaints.append(f"{field.name}: {complaint}")
    if complaints:
        raise ValueError(f"{type(limits).__name__}: {'; '.join(complaints)}")


UNLIMITED = 2**63


@dataclass(frozen=True)
class Limits:
    """Limits of client connections; times in seconds, sizes in bytes. docs/limits.md says what happens at each.

    Raises ValueError that names every field that makes no sense.
    """

    handshake_timeout: float = 10.0  # of TLS: closed
    proxy_header_timeout: float = 5.0  # of the PROXY protocol: closed
    head_timeout: float = 10.0  # from a head's first byte to its last: 408
    keep_alive: float = 75.0  # between requests: closed
    body_timeout: float = 30.0  # between reads of a request body: 408
    body_rate: int = 256  # bytes per second of a request body, on average over any body_timeout: 408
    body_bytes: int | None = None  # of a request body: 413
    chunk_extension_bytes: int = 16384  # of the extensions of all chunks of a request body: 400
    write_timeout: float = 30.0  # without progress while the client takes nothing
    write_rate: int = 256  # bytes per second that a client takes at least while more waits, over any write_timeout: cut
    tunnel_timeout: float = 3600.0  # without a byte either way in a tunnel: cut
    tunnel_total_timeout: float | None = None  # of a tunnel, whatever moves: cut, a WebSocket closed with 1001
    message_timeout: float | None = None  # without a message either way in a WebSocket, pings aside: closed with 1001
    message_bytes: int = 1 << 20  # of a message that `websocket_message` sees, decompressed: closed with 1009
    message_fragments: int = 16384  # frames of such a message: closed with 1008
    head_bytes: int = 32768  # 431
    target_bytes: int = 8192  # 414
    fields: int = 128  # 431
    buffered_bytes: int = 256 << 20  # of heads, and of bodies that wait for a slow receiver, per process: 503
    connections: int = 16384  # of clients, per worker: accepting pauses
    client_connections: int | None = None  # of one client address, per worker: closed at once
    connection_requests: int | None = 10000  # of one connection: the last answer says that it ends
    http2_streams: int = 128  # of one connection of HTTP/2 at once: refused; 0: no HTTP/2 without TLS
    http2_window: int = 65536  # bytes of a request body that one stream of HTTP/2 may have on its way
    http2_resets: int = 200  # streams of HTTP/2 that a client may reset at once, 33 more each second: closed
    hook_timeout: float = 60.0  # of one asynchronous hook: 504
    blocked_after: float | None = 1.0  # a hook that holds the loop for longer is logged; None: no watchdog

    def __post_init__(self) -> None:
        """Check."""
        check_limits(self)

    def for_core(self) -> dict[str, int]:
        """Give the fields of the core's ServerLimits, times in milliseconds."""
        return {
            "handshake_ms": int(self.handshake_timeout * 1000),
            "head_ms": int(self.head_timeout * 1000),
            "keep_alive_ms": int(self.keep_alive * 1000),
            "body_ms": int(self.body_timeout * 1000),
            "body_rate": self.body_rate,
            "body_bytes": UNLIMITED if self.body_bytes is None else self.body_bytes,
            "chunk_extension_bytes": self.chunk_extension_bytes,
            "tunnel_ms": int(self.tunnel_timeout * 1000),
            "tunnel_total_ms": int((self.tunnel_total_timeout or 0) * 1000),
            "message_ms": int((self.message_timeout or 0) * 1000),
            "message_bytes": self.message_bytes,
            "message_fragments": self.message_fragments,
            "write_ms": int(self.write_timeout * 1000),
            "write_rate": self.write_rate,
            "head_bytes": self.head_bytes,
            "target_bytes": self.target_bytes,
            "fields": self.fields,
            "buffered_bytes": self.buffered_bytes,
            "connections": self.connections,
            "client_connections": self.client_connections or 0,
            "http2_streams": self.http2_streams,
            "http2_window": self.http2_window,
            "http2_resets": self.http2_resets,
            "requests": UNLIMITED if self.connection_requests is None else self.connection_requests,
        }


def raise_descriptor_limit(wanted: int | None = None) -> None:
    """Let this process have as many descriptors as it may; the usual 1024 are for programs that call select().

    With `wanted`: so many, more than the hard limit if that can be raised. Raises OSError if it cannot.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if wanted is not None:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, most)))
        except (OSError, ValueError):
            raise OSError(f"descriptors: {wanted} are more than the hard limit of {most} (`ulimit -Hn`)") from None
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
