"""Worker processes: replaced when they die, none left behind."""

import contextlib
import json
import os
import re
import select
import signal

import pytest
from conversations import wait_until
from running import PROGRAM, is_running, without_greeting

DIES = """
class Dies(Proxy):
    @property
    def upstreams(self):
        if os.getpid() != PARENT:
            raise RuntimeError("no database")
        return Proxy.upstreams

server = pingora.Server()
server.add_proxy(Dies(), "unix:PATH")
"""


@pytest.mark.parametrize("to_group", [False, True], ids=["supervisor alone", "the whole group, as a terminal does"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_cleanly_and_leaves_no_orphan(start, number, to_group):
    proxy = start("--workers", "3")
    proxy.get()
    workers = proxy.workers(3)
    if to_group:
        os.killpg(proxy.process.pid, number)
        _, errors = proxy.process.communicate(timeout=60)
        code = proxy.process.returncode
    else:
        code, _, errors = proxy.end(number)
    assert (code, without_greeting(errors)) == (0, "")
    assert not any(map(is_running, workers))


@pytest.mark.parametrize("times", [1, 100], ids=["once", "several times at once, as timeout does"])
@pytest.mark.parametrize("arguments", [("--workers", "0"), ("--workers", "2", "--health", "127.0.0.1:0")])
def test_what_runs_is_answered_when_the_group_is_told_to_end(start, arguments, times):
    proxy = start(*arguments)
    with proxy.send("/upload", method="POST", headers="Content-Length: 4\r\n") as client:
        assert proxy.process.stdout.readline() == "reads\n"
        for _ in range(times):
            os.killpg(proxy.process.pid, signal.SIGTERM)
        wait_until(proxy.is_refusing)
        client.sendall(b"body")
        answer = b"".join(iter(lambda: client.recv(1000), b""))
    _, errors = proxy.process.communicate(timeout=60)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nbody")
    assert (proxy.process.returncode, without_greeting(errors)) == (0, "")


def test_a_request_whose_head_has_begun_to_come_is_answered(start):
    proxy = start("--workers", "1")
    with proxy.send("/", headers="X-More: comes") as client, proxy.send("/", headers="") as idle:
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")  # what was sent before that is read, too
        proxy.process.send_signal(signal.SIGTERM)
        assert idle.recv(1000) == b""  # idle connections are closed
        client.sendall(b"\r\n")
        answer = b"".join(iter(lambda: client.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert proxy.process.wait(60) == 0


def test_a_child_that_a_hook_forks_ends_on_sigterm(start):
    assert start("--workers", "1").get("/fork") == -signal.SIGTERM


def test_a_worker_that_is_killed_is_replaced(start):
    proxy = start("--workers", "1")
    first = proxy.get()
    os.kill(first, signal.SIGKILL)
    second = proxy.get()
    assert second != first
    code, _, errors = proxy.end()
    assert code == 0
    assert f"pingora: worker {first} was killed by SIGKILL, starting another now; " in errors


def test_a_worker_that_is_killed_leaves_in_the_log_how_many_requests_it_had_begun_and_how_many_ran(start):
    proxy = start("--workers", "1")
    with contextlib.ExitStack() as clients:
        for n_before, n_running in ((2, 2), (1, 0)):
            for _ in range(n_before):
                worker = proxy.get()
            for _ in range(n_running):
                clients.enter_context(proxy.send("/slow"))
                assert proxy.process.stdout.readline() == "slow\n"
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda worker=worker: not is_running(worker))
    _, _, errors = proxy.end()
    ends = re.findall(r"starting another now; requests begun: (\d+), running: (\d+)\n", errors)
    assert ends == [("4", "2"), ("1", "0")], "the second goes on with the numbers of the first, and is told apart"


STARTING_ANOTHER = re.compile(r"ended with code 1, starting another in (\S+) s")
RAISES = PROGRAM.replace(
    "    def make_cycle",
    """    async def worker_start(self):
        if os.path.exists("PATH.bad"):
            raise RuntimeError("no database")

    def make_cycle""",
)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("source", [PROGRAM + DIES, RAISES], ids=["before its loop", "in worker_start"])
def test_a_program_of_which_no_worker_starts_is_given_up_after_five_tries(start, tmp_path, source, workers):
    (tmp_path / "proxy.sock.bad").touch()
    proxy = start("--workers", workers, source=source)
    _, errors = proxy.process.communicate(timeout=60)
    assert proxy.process.returncode == 2
    assert set(STARTING_ANOTHER.findall(errors)) >= {"0.1", "0.2", "0.4", "0.8"}
    assert errors.count("failed: RuntimeError: no database\n") >= 5 * int(workers)
    assert errors.splitlines()[-1] == (
        "pingora: no worker became ready in 5 tries, correct what stops it: "
        "the last one ended with code 1: RuntimeError: no database"
    )


def test_workers_that_die_at_their_start_are_started_again_more_and_more_slowly_once_one_served(start, tmp_path):
    proxy = start("--workers", "1", source=RAISES)
    worker = proxy.get()
    (tmp_path / "proxy.sock.bad").touch()
    os.kill(worker, signal.SIGKILL)
    delays = []
    for line in proxy.process.stderr:
        delays += STARTING_ANOTHER.findall(line)
        if len(delays) == 6:
            break
    assert delays == ["0.1", "0.2", "0.4", "0.8", "1.6", "3.2"]
    (tmp_path / "proxy.sock.bad").unlink()
    assert proxy.get() != worker
    assert proxy.end()[0] == 0


def test_a_reload_mends_a_program_of_which_no_worker_starts(start):
    proxy = start("--workers", "1", source=RAISES.replace('os.path.exists("PATH.bad")', "True"))
    for line in proxy.process.stderr:
        if STARTING_ANOTHER.search(line):
            break
    proxy.write(PROGRAM)
    proxy.process.send_signal(signal.SIGHUP)
    proxy.get()
    assert proxy.end()[0] == 0


def test_workers_end_if_the_supervisor_is_killed(start):
    proxy = start("--workers", "2")
    proxy.get()
    workers = proxy.workers(2)
    proxy.process.kill()
    proxy.process.wait(60)
    wait_until(lambda: not any(map(is_running, workers)))


def test_a_worker_that_does_not_end_is_killed(start):
    proxy = start("--workers", "2", "--grace", "0")
    with proxy.send("/block"):
        assert proxy.process.stdout.readline() == "blocks\n"
        workers = proxy.workers(2)
        code, _, errors = proxy.end()
    assert code == 0
    assert re.search(r"pingora: worker \d+ does not end, killing it\n", errors)
    assert not any(map(is_running, workers))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_second_signal_cuts_what_still_runs(start, workers):
    proxy = start("--workers", workers, "--grace", "3600")
    with proxy.send("/slow") as client:
        assert proxy.process.stdout.readline() == "slow\n"
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(proxy.is_refusing)  # the first signal has come
        while not select.select([client], [], [], 0.05)[0]:  # a second one at once would be an echo
            proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(60) == 0
        assert client.recv(1) == b""


def test_cycles_that_hooks_make_are_freed_in_a_worker(start):
    proxy = start("--workers", "1")
    proxy.get("/cycle")
    assert proxy.process.stdout.readline() == "freed\n"
    assert proxy.end()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "parse"),
    [
        (["--access-log", "json"], lambda line: json.loads(line)["status"]),
        (["--access-log", "combined"], lambda line: int(line.split('" ')[1].split()[0])),
    ],
    ids=["json", "combined"],
)
def test_workers_lose_no_access_line(start, arguments, parse):
    proxy = start("--workers", "2", *arguments)
    for _ in range(50):
        proxy.get()
    code, output, _ = proxy.end()
    assert code == 0
    assert [parse(line) for line in output.splitlines()] == [200] * 50
