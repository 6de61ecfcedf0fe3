"""Process 1 of a container: it stays while upgrades replace the supervisor, its child.

It waits for orphans, passes signals on to the supervisor that serves, and ends when that one does, with its exit code.
It becomes a fresh interpreter that runs this file and imports nothing of pingora, so that it is small and need never be
replaced. The supervisor that serves is named in memory that they share.
"""

import os
import signal
import sys

VARIABLE = "PINGORA_PROCESS_1"  # DESCRIPTOR:PARENT, for the supervisor of an upgrade: that memory, and who started it
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
LOOK_S = 1.0  # between two looks at a supervisor that is not our child: it is that of one that still drains
WORD = 8


class ProcessOne:
    """Process 1 as a supervisor sees it. Owns the descriptor of the memory."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def find(cls) -> "ProcessOne | None":
        """As process 1 go on in a child; below one take what the environment names; else there is none."""
        if os.getpid() == 1:
            return cls(stand_aside())
        fd, _, parent = os.environ.pop(VARIABLE, "").partition(":")
        if parent != str(os.getppid()):
            return None
        os.set_inheritable(int(fd), False)
        return cls(int(fd))

    @property
    def variable(self) -> str:
        """What VARIABLE is for a child."""
        return f"{self.fd}:{os.getpid()}"

    def name_main(self) -> None:
        """Say that the present process is the supervisor that serves."""
        write_main(self.fd, os.getpid())

    def close(self) -> None:
        """Close the descriptor, in a child that is no supervisor."""
        os.close(self.fd)


def write_main(fd: int, pid: int) -> None:
    """Name the supervisor that serves."""
    os.pwrite(fd, pid.to_bytes(WORD, "little"), 0)


def read_main(fd: int) -> int:
    """Give the supervisor that serves."""
    return int.from_bytes(os.pread(fd, WORD, 0), "little")


def stand_aside() -> int:
    """Fork; return the descriptor of the memory in the child, and never in process 1."""
    fd = os.memfd_create("pingora-main", 0)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # process 1 keeps them for when it waits
    child = os.fork()
    if not child:
        os.set_inheritable(fd, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return fd
    write_main(fd, child)
    try:
        os.execv(sys.executable, [sys.executable, "-P", "-S", __file__, str(fd)])
    except OSError:  # a program that has no interpreter apart
        os._exit(stay(fd))


def stay(fd: int) -> int:
    """Be process 1 until the supervisor that serves has ended; return its exit code."""
    while True:
        given = signal.sigtimedwait((*PASSED_ON, signal.SIGCHLD), LOOK_S)
        # What a terminal sends, all processes have got.
        if given is not None and given.si_signo in PASSED_ON and given.si_code <= 0:
            send(read_main(fd), given.si_signo)
        ended = reap()
        main = read_main(fd)  # now: who has ended may have named another one before
        if main in ended:
            code = os.waitstatus_to_exitcode(ended[main])
            return code if code >= 0 else 128 - code
        if not send(main, 0):
            return 1


def send(pid: int, number: int) -> bool:
    """Send a signal; False if there is no such process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def reap() -> dict[int, int]:
    """Wait for all children that have ended; give their wait status by process id."""
    ended: dict[int, int] = {}
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    except ChildProcessError:
        pass
    return ended


if __name__ == "__main__":
    sys.exit(stay(int(sys.argv[1])))
