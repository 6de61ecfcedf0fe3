"""Ports of 127.0.0.1 that nobody has, for programs that must be told theirs.

Another process may take one before the program does: where a program tells the port that it got, ask it instead.
"""

import contextlib
import socket


@contextlib.contextmanager
def reserved_ports(count):
    """Give different ports, which nobody else can take before the block ends."""
    with contextlib.ExitStack() as stack:
        reserved = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [one.getsockname()[1] for one in reserved]


def free_ports(count):
    """Give different ports that were free just now."""
    with reserved_ports(count) as ports:
        return ports


def free_port():
    """Give a port that was free just now."""
    return free_ports(1)[0]
