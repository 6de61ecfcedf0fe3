"""systemd: what the service does (sd_notify), that it is alive (watchdog), and sockets that were opened for it."""

import contextlib
import os
import socket
import time

FIRST_FD = 3  # of sockets that systemd passes
PATIENCE_S = 1.0  # with a service manager that has no room for a message: without MAINPID it ends an upgraded service


class Notifier:
    """Tells the service manager what happens; does nothing without one.

    Takes the variables out of the environment, so that no child takes them for its own; `environment` has them for the
    program of an upgrade.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._interval = os.environ.pop("WATCHDOG_USEC", "")
        os.environ.pop("WATCHDOG_PID", None)
        self._next_s = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """What the next main process of the service needs."""
        given = {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": self._interval}
        return {name: value for name, value in given.items() if value}

    def send(self, **fields: object) -> None:
        """Send fields, such as `READY=1`; lose them rather than wait for long or fail."""
        self._send(fields, PATIENCE_S)

    def _send(self, fields: dict[str, object], patience_s: float) -> None:
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(patience_s)
            sock.connect(address)  # a wait for room is one for a peer
            sock.send(text.encode())

    def ready(self, status: str) -> None:
        """Say that the start, or a reload, is over."""
        self.send(READY=1, STATUS=status)

    def reloading(self) -> None:
        """Say that a reload begins."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def feed_watchdog(self) -> None:
        """Say that we live, at half the interval that systemd expects; call this often."""
        now = time.monotonic()
        if self._interval.isdigit() and now >= self._next_s:
            self._next_s = now + int(self._interval) / 2e6
            self._send({"WATCHDOG": 1}, 0)  # a manager without room has enough of these


def take_listen_fds() -> list[int]:
    """Take the listening sockets that systemd opened for this process (socket activation)."""
    pid, number = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not number.isdigit():
        return []
    fds = list(range(FIRST_FD, FIRST_FD + int(number)))
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds
