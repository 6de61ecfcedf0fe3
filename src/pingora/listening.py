"""Listening sockets: how an address is read, bound and named, and what helps where that fails.

Light: the supervisor, which opens them, imports it.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable

from pingora.usage import UsageError
from pingora_c.upstream.address import Address, parse_address

BACKLOG = 4096
REMEDIES = {
    errno.EADDRINUSE: "; end what listens there (`ss -ltnp` names it), or choose another port",
    errno.EADDRNOTAVAIL: "; this machine has no such address, ':8080' listens on all that it has",
    errno.EACCES: "; choose a port from 1024 on, or give the process CAP_NET_BIND_SERVICE",
}
UNIX_REMEDIES = {
    errno.EADDRINUSE: "; end what listens there, or choose another path",
    errno.ENOENT: "; make its directory first",
    errno.EACCES: "; choose a directory that this user may write to",
}


def listening_address(text: str) -> Address:
    """Read where to listen. Raises UsageError that names the address."""
    try:
        return parse_address(text, is_listen=True)
    except ValueError as error:
        raise UsageError(f"cannot listen on {text!r}: {error}{remedy_for(text)}") from None


def addresses_of(listen: str | Iterable[str]) -> list[str]:
    """Give one address or several as a list. Raises TypeError for what is no text."""
    texts = [listen] if isinstance(listen, str) or not isinstance(listen, Iterable) else list(listen)
    for text in texts:
        if not isinstance(text, str):
            remedy = f'; write ":{text}"' if isinstance(text, int) else ""
            raise TypeError(f'add_proxy: expected an address such as ":8080", got {text!r}{remedy}')
    return texts


def remedy_for(text: str) -> str:
    """Say how a listening address that cannot be read is written, as the end of a message; "" if that is not known."""
    return "; write 127.0.0.1" if text.startswith("localhost:") else f"; write :{text}" if text.isdigit() else ""


def name_of(sock: socket.socket) -> str:
    """Give the address that a socket is bound to, "ip:port", "[ip]:port" or "unix:/path"."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return "unix:" + os.fsdecode(name).replace("\0", "@")
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def listen_key(address: str) -> str:
    """Give the one spelling of a listening address; ":80" is for IPv4 as well, "[::]:80" is not. Raises ValueError."""
    parsed = parse_address(address, is_listen=True)
    return parsed.text.removeprefix("[::]") if parsed.is_dual_stack else parsed.text


def key_of_socket(sock: socket.socket) -> str:
    """Give the key of the address that a socket is bound to."""
    name = name_of(sock)
    is_dual = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return name.removeprefix("[::]") if is_dual else name


def open_listener(text: str, reuse_port: bool = False) -> socket.socket:
    """Bind and listen. Raises UsageError that names the address."""
    address = listening_address(text)
    if address.is_unix:
        return listen_unix(text, address)
    host, _, port = address.text.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.is_dual_stack else 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        sock.bind((host.strip("[]"), int(port)))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise cannot_listen(text, error) from None
    return sock


def listen_unix(text: str, address: Address) -> socket.socket:
    """Listen on a Unix socket; a socket file that nobody listens on is replaced, any other file stays."""
    path = address.text.removeprefix("unix:")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            path = "\0" + path[1:]
        else:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(path).st_mode) and probe.connect_ex(path) != 0:
                    os.unlink(path)
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise cannot_listen(text, error) from None
    return sock


def cannot_listen(text: str, error: OSError) -> UsageError:
    """Say why an address cannot be listened on, and what helps."""
    remedy = UNIX_REMEDIES if text.startswith("unix:") else REMEDIES
    return UsageError(f"cannot listen on {text!r}: {error.strerror}{remedy.get(error.errno or 0, '')}")
