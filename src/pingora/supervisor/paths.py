"""Where the control sockets of running instances are: one file NAME.sock per instance in a directory of its user."""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from pingora.supervisor import Refused

ENVIRONMENT = "PINGORA_CONTROL"  # path of a control socket, for both sides
NAMES_MOST = 100  # instances of one name


def directory() -> Path:
    """Give the directory of this user's control sockets."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "pingora"
    if os.geteuid() == 0:
        return Path("/run/pingora")
    temporary = Path(os.environ.get("TMPDIR", ""))  # no tempfile, by which the supervisor would hold OpenSSL
    if not temporary.is_absolute() or not temporary.is_dir():
        temporary = Path("/tmp")
    return temporary / f"pingora-{os.geteuid()}"


def check_owner(path: Path) -> None:
    """Refuse a directory that another user could have prepared. Raises Refused."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Refused(f"{path} is not a directory that only this user may write to")


def is_alive(path: Path) -> bool:
    """Return True if somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(str(path)) == 0


def bind(path: Path) -> socket.socket:
    """Listen on a path, for this user only; a file that nobody listens on is replaced. Raises Refused."""
    if is_alive(path):
        raise Refused(f"the control socket {path} belongs to an instance that runs")
    if path.exists() and not path.is_socket():
        raise Refused(f"cannot make the control socket {path}: there is a file that is no socket")
    temporary = path.with_name(f"{path.name}.{os.getpid()}")  # renamed when it listens: who sees the file can ask
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        temporary.unlink(missing_ok=True)
        sock.bind(str(temporary))
        sock.listen(16)
        temporary.rename(path)
    except OSError as error:
        sock.close()
        remedy = "; make its directory first" if error.errno == errno.ENOENT else ""
        raise Refused(f"cannot make the control socket {path}: {error.strerror or error}{remedy}") from None
    finally:
        os.umask(mask)
    return sock


def bind_default(name: str) -> tuple[Path, socket.socket]:
    """Listen on NAME.sock of this user's directory; on NAME-2.sock if an instance of that name runs. Raises Refused."""
    place = directory()
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        check_owner(place)
    except OSError as error:
        raise Refused(f"cannot make the control socket in {place}: {error.strerror}") from None
    for number in range(1, NAMES_MOST):
        path = place / (f"{name}.sock" if number == 1 else f"{name}-{number}.sock")
        if not is_alive(path):
            return path, bind(path)
    raise Refused(f"{NAMES_MOST} instances named {name} run")


def find(control: str | None, name: str | None) -> Path:
    """Find the control socket that an operator means: by path, by name, or the only one. Raises Refused."""
    if control or (control := os.environ.get(ENVIRONMENT)):
        return Path(control)
    place = directory()
    if name:
        return place / f"{name}.sock"
    running: list[Path] = []
    with contextlib.suppress(OSError, Refused):
        check_owner(place)
        running = sorted(path for path in place.glob("*.sock") if is_alive(path))
    if not running:
        raise Refused(f"no instance runs (none in {place}; --control PATH names one elsewhere)")
    if len(running) > 1:
        raise Refused(f"several instances run, choose with --name: {', '.join(path.stem for path in running)}")
    return running[0]
