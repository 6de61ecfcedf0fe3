"""How many processors this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OUR_GROUPS = Path("/proc/self/cgroup")


def auto_workers(mounted: Path = CONTROL_GROUPS, groups: Path = OUR_GROUPS) -> int:
    """Give the number of processors that this process may use, by affinity and by the quotas of its control groups."""
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas(mounted, groups))]))


def quotas(mounted: Path, groups: Path) -> Iterator[float]:
    """Give the processors that the control groups leave us, each of those we are in and those around it; cgroups(7)."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mount, files = mounted, ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mount, files = mounted / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        own = mount / path.strip("/")  # in a container it may be as the host sees it: then only the mount is there
        for directory in (own, *(parent for parent in own.parents if parent.is_relative_to(mount))):
            try:
                quota, period = map(int, " ".join((directory / name).read_text() for name in files).split())
            except (OSError, ValueError):
                continue  # no such group, or no quota: "max"
            if quota > 0:  # -1: none
                yield quota / period
