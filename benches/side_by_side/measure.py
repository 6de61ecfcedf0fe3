"""What the kernel says about a process: CPU time, memory, system calls."""

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .processes import tasks

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuTime:
    """CPU time of some processes. `total_ns` is exact; user and system are its split by clock ticks."""

    total_ns: int
    user_ns: int
    system_ns: int

    @classmethod
    def of(cls, pids: list[int]) -> "CpuTime":
        """Sum up all threads of `pids`."""
        total = user = system = 0
        for pid in pids:
            for task in tasks(pid):
                place = Path(f"/proc/{pid}/task/{task}")
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                user += int(fields[11]) * 1_000_000_000 // TICKS_PER_SECOND
                system += int(fields[12]) * 1_000_000_000 // TICKS_PER_SECOND
                total += on_cpu_ns(place)
        return cls(total or user + system, user, system)

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        return CpuTime(
            self.total_ns - earlier.total_ns, self.user_ns - earlier.user_ns, self.system_ns - earlier.system_ns
        )


def on_cpu_ns(task: Path) -> int:
    """Return the nanoseconds the scheduler counted for a thread; 0 where the kernel was built without schedstat."""
    try:
        return int((task / "schedstat").read_text().split()[0])
    except FileNotFoundError:
        return 0


@dataclass(frozen=True)
class Memory:
    """Memory of some processes. PSS divides shared pages among those that map them."""

    pss_kib: int
    rss_kib: int

    @classmethod
    def of(cls, pids: list[int]) -> "Memory":
        pss = rss = 0
        for pid in pids:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            pss += kib_of(rollup, "Pss")
            rss += kib_of(rollup, "Rss")
        return cls(pss, rss)


def kib_of(rollup: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", rollup, re.MULTILINE)
    if not found:
        raise ValueError(f"no {name} in smaps_rollup")
    return int(found[1])


class CannotCount(Exception):
    """Neither perf nor strace can count system calls here."""


def count_system_calls(pids: list[int], load: list[str], scratch: Path) -> int:
    """Run the command `load` and return how many system calls `pids` made meanwhile.

    perf counts at full speed; strace, the way out where the kernel gives perf no tracepoint, slows the proxy
    several times, so that more events meet in one batch.
    """
    if can_perf():
        return count_by_perf(pids, load, scratch / "perf.csv")
    if shutil.which("strace"):
        return count_by_strace(pids, load, scratch / "strace.txt")
    raise CannotCount("system calls are counted with perf or strace; neither works here")


def can_perf() -> bool:
    if not shutil.which("perf"):
        return False
    probe = subprocess.run(["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, check=False)
    return probe.returncode == 0 and b"not supported" not in probe.stderr


def count_by_perf(pids: list[int], load: list[str], output: Path) -> int:
    watched = ",".join(map(str, pids))
    subprocess.run(
        ["perf", "stat", "-x", ",", "-o", str(output), "-e", "raw_syscalls:sys_enter", "-p", watched, "--", *load],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    counted = [line.split(",")[0] for line in output.read_text().splitlines() if "raw_syscalls" in line]
    return sum(int(number) for number in counted)


def count_by_strace(pids: list[int], load: list[str], output: Path) -> int:
    watched = [argument for pid in pids for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(
        ["strace", "-q", "-c", "-f", "-o", str(output), *watched],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while tracer.poll() is None and not all(is_traced(pid) for pid in pids):
            time.sleep(0.01)
        subprocess.run(load, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    total = re.search(r"^\s*100\.00\s.*?\s(\d+)\s+(?:\d+\s+)?total$", output.read_text(), re.MULTILINE)
    if not total:
        raise CannotCount("strace could not attach")
    # The columns before "total" are: seconds, microseconds per call, calls, and errors if there were any.
    return int(total[0].split()[3])


def is_traced(pid: int) -> bool:
    return all("TracerPid:\t0\n" not in Path(f"/proc/{pid}/task/{task}/status").read_text() for task in tasks(pid))
