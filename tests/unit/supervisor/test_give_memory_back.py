"""A process that waits gives back the pages of programs and libraries, and nothing that it has changed."""

import mmap
import re
from pathlib import Path

import pytest

from pingora.supervisor.system import give_memory_back

PAGES = 16
PAGE = mmap.PAGESIZE


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "library"
    path.write_bytes(b"".join(bytes([number]) * PAGE for number in range(PAGES)))
    with path.open("r+b") as opened:
        yield opened


def resident_kib(file):
    """Give the KiB of a file's mappings in this process that are in memory."""
    mapping = r"\n[0-9a-f]+-[0-9a-f]+ [^\n]*" + re.escape(file.name) + r"\n(?:[A-Z][^\n]*\n)*?Rss: +(\d+) kB"
    return sum(map(int, re.findall(mapping, Path("/proc/self/smaps").read_text())))


def contents(mapped):
    return [mapped[number * PAGE] for number in range(PAGES)]


def test_pages_that_nobody_changed_leave_and_come_back(file):
    with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
        assert contents(mapped) == list(range(PAGES))
        assert resident_kib(file) == PAGES * PAGE // 1024

        give_memory_back()

        assert resident_kib(file) == 0
        assert contents(mapped) == list(range(PAGES))


def test_a_mapping_with_a_changed_page_stays_as_it_is(file):
    with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        mapped[3 * PAGE] = 200
        changed = contents(mapped)

        give_memory_back()

        assert resident_kib(file) > 0
        assert contents(mapped) == changed == [0, 1, 2, 200, *range(4, PAGES)]


def test_a_shared_mapping_is_left_alone(file):
    with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED) as mapped:
        mapped[0] = 77

        give_memory_back()

        assert resident_kib(file) > 0
        assert mapped[0] == 77
