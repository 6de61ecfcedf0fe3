"""Connections that objects of yours carry: in memory, through SSH, by a QUIC library. To upstreams and from clients.

Each is a pair of connected sockets: one end is an ordinary connection of the core, with all its limits, and between the
other one and the object two loops copy. So what waits is bounded by the buffers of the pair, and a slow side slows the
other one down. A pair knows ends but no resets: those are told beside it, by a Tie.
"""

import asyncio
import contextlib
import inspect
import logging
import select
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pingora_c.net.transport import Tie
from pingora_c.upstream.address import parse_address

if TYPE_CHECKING:
    from pingora.proxy import ProxyHttp
    from pingora.tcp import TcpProxy

CHUNK = 65536
BUFFER_BYTES = 65536  # SO_SNDBUF of each end; the kernel doubles it
LEFT_CHECK_S = 1.0  # between looks at whether the core has left
CLOSE_S = 5.0  # for `close()` of a carrier
DELIVERY_S = 60.0  # for what it had written before

log = logging.getLogger("pingora")
carried: set[asyncio.Task[None]] = set()  # or the loop would let them go


@runtime_checkable
class Carrier(Protocol):
    """What carries a connection. Two more methods are used where it has them.

    `drain()`, awaited behind each write, holds us up while too much waits; `write_eof()` ends our direction only; and
    `abort()`, in place of `close`, ends the connection so that the other side sees a cut: one, too, that raises in
    `read` or `write` was cut.
    """

    def read(self, n: int, /) -> Awaitable[bytes]:
        """Give up to `n` bytes; b"" at the end of what the other side says."""
        raise NotImplementedError

    def write(self, data: bytes, /) -> Awaitable[object] | None:
        """Send bytes."""

    def close(self) -> Awaitable[object] | None:
        """End the connection."""


Streams = tuple[Any, Any]  # a reader and a writer with the methods of asyncio's
Open = Callable[[str], Awaitable[Carrier | Streams]]


class StreamCarrier:
    """The reader and the writer that asyncio, asyncssh and others give for one connection."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.read = reader.read
        self.write = writer.write
        self.drain = writer.drain
        self.close = writer.close
        self._writer = writer
        abort = getattr(getattr(writer, "transport", None), "abort", None)
        if abort is not None:
            self.abort = abort

    def write_eof(self) -> None:
        """End our direction, where the transport can."""
        if self._writer.can_write_eof():
            self._writer.write_eof()


class Transport:
    """Opens connections to upstreams by `open`, an async function that gets the peer's address as a text.

    It gives a Carrier, or a pair (reader, writer) of asyncio. For `HttpPeer(address, transport=…)`; peers
    of one Transport share connections as others do. While it awaits the connect goes
    on, up to `connect_timeout`; one that raises is a connect that failed, and is logged.
    """

    def __init__(self, open: Open) -> None:
        self._open = open
        self._ties: dict[int, Tie] = {}

    def dial(self, address: str) -> int:
        """Begin to connect; a socket for the core, which can be written once the connection is open. Raises OSError."""
        ours, theirs = connected_pair()
        filled = fill(ours)
        tie = Tie()
        task = asyncio.get_running_loop().create_task(self._connect(address, theirs, filled, tie))
        carried.add(task)
        task.add_done_callback(carried.discard)
        self._ties[ours.fileno()] = tie
        return ours.detach()

    def tie_of(self, fd: int) -> Tie | None:
        """Give what belongs to a socket that `dial` gave, once."""
        return self._ties.pop(fd, None)

    async def _connect(self, address: str, sock: socket.socket, filled: int, tie: Tie) -> None:
        """Open the connection, let the core write, and carry."""
        with sock:
            opening = asyncio.ensure_future(self._open(address))
            try:
                while not (await asyncio.wait([opening], timeout=LEFT_CHECK_S))[0]:
                    if is_left(sock):
                        return  # it gave up: connect_timeout
                connection = as_carrier(opening.result())
            except Exception as error:
                log.warning("transport to %s: %s: %s", address, type(error).__name__, error)
                return
            finally:
                opening.cancel()
            loop = asyncio.get_running_loop()
            while filled:
                filled -= len(await loop.sock_recv(sock, min(CHUNK, filled)))
            await carry(sock, connection, tie)


async def serve_connection(
    proxy: "ProxyHttp | TcpProxy", connection: Carrier | Streams, *, client: str | None = None
) -> None:
    """Serve what `connection` carries as a client of `proxy`, which this process serves, until it has ended.

    `client` is the client's address, "ip:port", for hooks, limits and logs; None is like a Unix socket: someone on this
    machine. There is no TLS in it but what the carrier has. Raises LookupError if `proxy` is not served on this loop,
    ValueError for an address that is none.
    """
    from pingora.serving import serving_here  # which imports all of the core

    place = None if client is None else parse_address(client)
    carrier = as_carrier(connection)
    loop = asyncio.get_running_loop()
    for serving in list(serving_here):
        for service, site in zip(serving.services, serving.server.sites, strict=True):
            if site.proxy is proxy and serving.loop is loop and not serving.is_stopping:
                ours, theirs = connected_pair()
                tie = Tie()
                service.serve_socket(ours.detach(), place, tie)
                with theirs:
                    await carry(theirs, carrier, tie)
                return
    raise LookupError(f"serve_connection: {type(proxy).__name__} is not served on this event loop")


def as_carrier(given: Any) -> Any:
    """Give the Carrier that `given` is or makes. Raises TypeError."""
    if isinstance(given, tuple) and len(given) == 2:
        return StreamCarrier(*given)
    if isinstance(given, Carrier):
        return given
    raise TypeError(f"expected an object with read, write and close, or a pair of streams, got {given!r}")


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Make two connected sockets whose buffers are small. Raises OSError."""
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return pair


def fill(sock: socket.socket) -> int:
    """Fill a socket's buffer, so that it cannot be written until all of it has been read; how many bytes."""
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += sock.send(bytes(4096))
    return filled


def is_left(sock: socket.socket) -> bool:
    """Whether the other end was closed, not only its direction to us ended."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


async def carry(sock: socket.socket, connection: Any, tie: Tie) -> None:
    """Copy both ways until both have ended or the connection fails, and close it.

    An end of the carrier is one for the core only once `tie` says so, and a cut by the core is one for the carrier.
    What the core had written when it left is delivered, if that takes no longer than DELIVERY_S.
    """
    loop = asyncio.get_running_loop()
    inward = loop.create_task(copy_in(sock, connection, tie))
    outward = loop.create_task(copy_out(sock, connection, tie))
    pending = {inward, outward}
    give_up_at = None
    try:
        while pending:
            ended, pending = await asyncio.wait(pending, timeout=LEFT_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
            if any(task.exception() for task in ended) or tie.was_reset:
                break
            if is_left(sock):
                give_up_at = give_up_at or loop.time() + DELIVERY_S
                if outward.done() or loop.time() > give_up_at:
                    break
    finally:
        if any(task.done() and not task.cancelled() and task.exception() for task in (inward, outward)):
            sock.close()  # the core need not wait until the carrier is closed
        await close(connection, tie, inward, outward)


async def close(connection: Any, tie: Tie, *tasks: "asyncio.Task[None]") -> None:
    """End both directions and the connection; what fails now is told to nobody but the log.

    `close()` or `abort()` is called before anything is awaited: the loop may end meanwhile.
    """
    end = getattr(connection, "abort", connection.close) if tie.was_reset else connection.close
    for task in tasks:
        task.cancel()
    ending: list[Any] = list(tasks)
    try:
        ending.append(asyncio.wait_for(asyncio.ensure_future(waited(end())), CLOSE_S))
    except Exception as error:
        log.debug("transport: %s: %s", type(error).__name__, error)
    for result in await asyncio.gather(*ending, return_exceptions=True):
        if isinstance(result, Exception):
            log.debug("transport: %s: %s", type(result).__name__, result)


async def copy_out(sock: socket.socket, connection: Any, tie: Tie) -> None:
    """Copy what the core writes, then its end."""
    loop = asyncio.get_running_loop()
    drain, write_eof = getattr(connection, "drain", None), getattr(connection, "write_eof", None)
    while data := await received(loop, sock):
        await waited(connection.write(data))
        if drain is not None:
            await waited(drain())
    if write_eof is not None and not tie.was_reset and not is_left(sock):
        await waited(write_eof())


async def received(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    """Give what the core wrote, b"" at its end, also where it left without reading all that it got."""
    try:
        return await loop.sock_recv(sock, CHUNK)
    except ConnectionResetError:
        return b""


async def copy_in(sock: socket.socket, connection: Any, tie: Tie) -> None:
    """Copy what the other side says, then its end."""
    loop = asyncio.get_running_loop()
    while data := await connection.read(CHUNK):
        try:
            await loop.sock_sendall(sock, data)
        except (BrokenPipeError, ConnectionResetError):
            return  # the core has left
    tie.has_ended = True
    sock.shutdown(socket.SHUT_WR)


async def waited(result: Any) -> None:
    """Await what a method gave, if there is anything to await."""
    if inspect.isawaitable(result):
        await result
