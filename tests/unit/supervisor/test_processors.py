"""`--workers auto` is the processors of this process: of its affinity, and of the quotas of its control groups."""

import os

import pytest

from pingora.supervisor import processors
from pingora.supervisor.processors import auto_workers


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch):
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.fixture
def counted(tmp_path):
    """Count with files below the mount, given by their path, and the groups that the process is in."""

    def counted(groups, **files):
        (tmp_path / "groups").write_text(groups)
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        return auto_workers(tmp_path / "cgroup", tmp_path / "groups")

    return counted


UNIT = "0::/system.slice/edge.service\n"
OLD = "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (UNIT, {"system.slice/edge.service/cpu.max": "200000 100000"}, 2),
        (UNIT, {"system.slice/edge.service/cpu.max": "250000 100000"}, 3),
        (UNIT, {"system.slice/edge.service/cpu.max": "1000 100000"}, 1),
        (UNIT, {"system.slice/edge.service/cpu.max": "max 100000"}, 8),
        (UNIT, {"system.slice/edge.service/cpu.max": "max 100000", "system.slice/cpu.max": "400000 100000"}, 4),
        (UNIT, {"system.slice/edge.service/cpu.max": "9900000 100000"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000"}, 3),
        (OLD, {"cpu/docker/1f/cpu.cfs_quota_us": "150000", "cpu/docker/1f/cpu.cfs_period_us": "50000"}, 3),
        (OLD, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2),
        (OLD, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "50000"}, 8),
        (OLD, {}, 8),
    ],
)
def test_quotas_of_groups_count(counted, groups, files, expected):
    assert counted(groups, **files) == expected


def test_without_control_groups_affinity_counts(tmp_path):
    assert auto_workers(tmp_path / "none", tmp_path / "nothing") == len(os.sched_getaffinity(0)) == 8
