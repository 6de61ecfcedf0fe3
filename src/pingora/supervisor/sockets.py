"""The listening sockets of an instance, held by its supervisor: for each address one SO_REUSEPORT socket per slot.

A socket is closed only when its address goes away: closing one resets the clients in its queue. Unix sockets and
sockets that systemd opened exist once and are shared by all workers.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pingora.listening import key_of_socket, listen_key, listening_address, name_of, open_listener
from pingora.supervisor.channel import FDS_MOST, Channel, Message
from pingora.usage import UsageError

if TYPE_CHECKING:
    from pingora.server import Server, Site


def keys_of(addresses: Iterable[str]) -> list[str]:
    """Give each listening address its one spelling. Raises UsageError, also for one that comes twice."""
    keys: list[str] = []
    for text in addresses:
        address = listening_address(text)
        key = listen_key(text)
        if key in keys and not address.is_unix and address.port == 0:
            key = f"{key}#{len(keys)}"  # any port, and another than the one before
        if key in keys:
            raise UsageError(f"cannot listen on {text!r}: the address is used twice")
        keys.append(key)
    return keys


class SlotSockets:
    """Sockets by address and slot. Owns them."""

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots
        self.sockets: dict[str, list[socket.socket]] = {}
        self._inherited: list[socket.socket] = []

    def inherit(self, fds: Iterable[int]) -> None:
        """Take over sockets that somebody else opened, for the addresses they are bound to, once one is asked for."""
        self._inherited.extend(socket.socket(fileno=fd) for fd in fds)

    def adopt(self, sockets: dict[str, list[socket.socket]]) -> None:
        """Take over sockets by their keys; `grow` opens the slots that lack."""
        self.sockets.update(sockets)

    def grow(self, n_slots: int) -> list[tuple[str, socket.socket]]:
        """Open the slots that lack to so many; return them with their keys. Raises UsageError, and then opens none."""
        new: list[tuple[str, socket.socket]] = []
        try:
            for key, of_address in self.sockets.items():
                if has_slots(of_address):
                    address = key_of_socket(of_address[0])
                    for _ in range(n_slots - len(of_address)):
                        new.append((key, open_listener(address, reuse_port=True)))
        except UsageError:
            for _, sock in new:
                sock.close()
            raise
        for key, sock in new:
            self.sockets[key].append(sock)
        self.n_slots = max(self.n_slots, n_slots)
        return new

    def open(self, addresses: Sequence[str]) -> list[str]:
        """Open what is not open yet; return the keys of what is new. Raises UsageError, and then opens none."""
        new: list[str] = []
        try:
            for text, key in zip(addresses, keys_of(addresses), strict=True):
                if key not in self.sockets:
                    self.sockets[key] = self._take_inherited(key) or self._open_all(text, key)
                    new.append(key)
        except UsageError:
            self.close(new)
            raise
        return new

    def _open_all(self, text: str, key: str) -> list[socket.socket]:
        address = listening_address(text)
        if address.is_unix:
            return [open_listener(text)]
        if not self._has_port(address.port):
            # A socket without SO_REUSEPORT finds out whether the port is taken, with it two instances would share one.
            with open_listener(text) as probe:
                text = f"{text.rpartition(':')[0]}:{probe.getsockname()[1]}"
        opened: list[socket.socket] = []
        try:
            for _ in range(self.n_slots):
                opened.append(open_listener(text, reuse_port=True))
        except UsageError:
            for sock in opened:
                sock.close()
            raise
        return opened

    def _has_port(self, port: int) -> bool:
        """Whether we hold a port already, on another address such as ":80" beside "127.0.0.1:80"."""
        held = (of_address[0] for of_address in self.sockets.values() if has_slots(of_address))
        return any(sock.family != socket.AF_UNIX and sock.getsockname()[1] == port for sock in held)

    def _take_inherited(self, key: str) -> list[socket.socket]:
        # systemd makes "[::]:80" for IPv4 as well, unless its unit says otherwise.
        taken = [sock for sock in self._inherited if key in (key_of_socket(sock), name_of(sock))]
        self._inherited = [sock for sock in self._inherited if sock not in taken]
        for sock in taken:
            sock.setblocking(False)
        return taken

    def names(self) -> list[str]:
        """Give the addresses, with the ports that were chosen for port 0."""
        return [name_of(of_address[0]) for of_address in self.sockets.values()]

    def close_unclaimed(self) -> list[str]:
        """Close inherited sockets that no address asked for; return what they are bound to."""
        names = [name_of(sock) for sock in self._inherited]
        for sock in self._inherited:
            sock.close()
        self._inherited = []
        return names

    def keep_only(self, addresses: Iterable[str]) -> None:
        """Close the sockets of all other addresses."""
        kept = keys_of(addresses)
        self.close([key for key in self.sockets if key not in kept])

    def close(self, keys: Iterable[str]) -> None:
        """Close what is open of some addresses, in all processes that have it: an older generation may."""
        for key in keys:
            for sock in self.sockets.pop(key, ()):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def release(self) -> None:
        """Close our copies: another supervisor has all of them."""
        for of_address in self.sockets.values():
            for sock in of_address:
                sock.close()
        self.sockets.clear()

    def close_all(self) -> None:
        """Close everything."""
        self.close(list(self.sockets))

    def send(self, channel: Channel, keys: Iterable[str] | None = None, kind: str = "sockets") -> None:
        """Send the sockets of some addresses, or of all, in as many messages as it takes."""
        wanted = self.sockets if keys is None else keys
        send_sockets(channel, [(key, sock) for key in wanted for sock in self.sockets[key]], kind)


def has_slots(of_address: Sequence[socket.socket]) -> bool:
    """Whether an address has a socket per slot: Unix sockets and those that systemd opened exist once."""
    return bool(of_address[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def send_sockets(channel: Channel, items: Sequence[tuple[str, socket.socket]], kind: str) -> None:
    """Send sockets with their keys, in as many messages as it takes. Raises OSError: nobody reads there."""
    for at in range(0, len(items), FDS_MOST):
        part = items[at : at + FDS_MOST]
        channel.send(kind, [sock.fileno() for _, sock in part], keys=[key for key, _ in part])


def take(sockets: dict[str, list[socket.socket]], message: Message) -> None:
    """Add what `SlotSockets.send` sent, by its keys."""
    for key, fd in zip(message["keys"], message.fds, strict=True):
        sockets.setdefault(key, []).append(socket.socket(fileno=fd))


def places_of(server: "Server") -> "Iterator[tuple[Site, str, str]]":
    """Give each site's addresses with their keys."""
    keys = iter(keys_of(server.addresses))
    for site in server.sites:
        for address in site.addresses:
            yield site, address, next(keys)
