"""Log files that are moved away, or cannot be written to, while clients keep asking."""

import re
import signal

from conversations import wait_until
from load import Load


def test_no_line_is_lost_or_torn_while_files_are_rotated(proxy, tmp_path):
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    files = ["--access-log-file", str(access), "--error-log-file", str(errors)]
    running = proxy("--workers", "2", "--access-log", "combined", *files)
    with Load(running.port) as load:
        for number in range(5):
            access.rename(tmp_path / f"access.{number}")
            running.process.send_signal(signal.SIGUSR1)
            wait_until(access.exists)
            load.wait_for_answers(200)
    assert running.end()[0] == 0
    parts = [path.read_text().splitlines() for path in tmp_path.glob("access.*")]
    lines = [line for part in parts for line in part]
    assert (len(lines), load.outcome.lost) == (load.outcome.answered, 0)
    assert all(re.fullmatch(r'127\.0\.0\.1 - - \[[^]]+\] "GET / HTTP/1\.1" 200 \d+ .*', line) for line in lines)
    assert sum(map(bool, parts)) > 1, "several files have some"


def test_a_full_disk_costs_lines_which_are_counted_and_no_request(proxy, tmp_path):
    errors = tmp_path / "error.log"
    files = ["--access-log-file", "/dev/full", "--error-log-file", str(errors)]
    running = proxy("--workers", "1", "--access-log", "combined", *files)
    with Load(running.port) as load:
        load.wait_for_answers(100)
    assert load.outcome.lost == 0
    assert running.end()[0] == 0
    dropped = map(int, re.findall(r"(\d+) lines for stdout were dropped: they cannot be written", errors.read_text()))
    assert sum(dropped) == load.outcome.answered, errors.read_text()
