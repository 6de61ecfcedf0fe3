"""Memory in which the secrets of tickets outlive the process that made them: generations of a program share it.

A file without a name, held by the supervisor. It has one record for each lifetime of tickets: the secret of one epoch,
from which those of later epochs follow. As time passes it is overwritten, so nobody who reads it later can open what
was recorded before.
"""

import fcntl
import hmac
import os
import struct

RECORD = struct.Struct("<QQ32s")  # lifetime in seconds, epoch, secret
RECORDS_MOST = 64
NEXT = b"pingora next"


def next_secret(secret: bytes) -> bytes:
    """Give the secret of the next epoch, from which this one cannot be found again."""
    return hmac.digest(secret, NEXT, "sha256")


shared: "TicketStore | None" = None  # what this process was given; None: it keeps its secrets to itself


class TicketStore:
    """Secrets behind the descriptor `fd`, which stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def secret(self, lifetime: int, epoch: int) -> tuple[int, bytes]:
        """Give an epoch and its secret: `epoch` itself, or a later one that another process has come to already.

        Forgets the secrets of all epochs before. Raises OSError, also if there is no room for another lifetime.
        """
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            return self._secret(lifetime, epoch)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _secret(self, lifetime: int, epoch: int) -> tuple[int, bytes]:
        for at in range(0, RECORDS_MOST * RECORD.size, RECORD.size):
            data = os.pread(self._fd, RECORD.size, at)
            if len(data) < RECORD.size:
                known, secret = epoch, os.urandom(32)
                break
            of_lifetime, known, secret = RECORD.unpack(data)
            if of_lifetime == lifetime:
                break
        else:
            raise OSError(f"secrets of {RECORDS_MOST} lifetimes of tickets are kept already")
        while known < epoch:
            known, secret = known + 1, next_secret(secret)
        os.pwrite(self._fd, RECORD.pack(lifetime, known, secret), at)
        return known, secret
