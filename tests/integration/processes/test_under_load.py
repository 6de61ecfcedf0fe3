"""What clients see of reloads, crashes and stuck workers while they keep asking; `make bench-reload` does it longer."""

import os
import re
import signal

from conversations import wait_until
from load import EchoOrigin, Load
from running import TCP_SOURCE, is_running


def test_reloads_lose_nothing(proxy):
    running = proxy("--workers", "2", "--drain", "20")
    with Load(running.port, streams=2) as load:
        for number in range(2, 6):
            assert running.ask("reload")["text"] == f"generation {number} has taken over"
            load.wait_for_answers(50)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])


def test_tunnels_live_through_reloads_and_upgrades(proxy):
    origin = EchoOrigin()
    running = proxy("--workers", "2", source=TCP_SOURCE.replace("127.0.0.1:1", origin.address, 1))
    with Load(running.port, tunnels=4) as load:
        for command in ("reload", "upgrade", "reload"):
            running.ask(command)
            load.wait_for_answers(50)
        echoed = load.outcome.echoed
        wait_until(lambda: load.outcome.echoed > echoed + 20)
    origin.close()
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    assert running.ask("stop", now=True)["text"] == "stopped"


def test_killed_workers_lose_only_what_they_had_in_hand(proxy):
    running = proxy("--workers", "2")
    killed = set()
    with Load(running.port) as load:
        for number in (0, 1, 0, 1):
            killed.add(running.both()[number])
            os.kill(running.both()[number], signal.SIGKILL)
            wait_until(lambda: not killed & set(running.both().values()))
            load.wait_for_answers(50)
    assert load.outcome.refused == 0, load.outcome
    assert load.outcome.unanswered + load.outcome.cut <= 12 * len(killed), load.outcome


def test_new_clients_are_served_while_a_worker_is_stuck_and_it_says_where(proxy):
    running = proxy("--workers", "2", "--stuck-after", "4")
    before = running.both()
    with running.connect("/block") as stuck:
        assert running.process.stdout.readline() == "blocks\n"
        with Load(running.port, kept=0, new=4) as load:
            load.wait_for_answers(100)
            assert running.serving() == before
            assert stuck.recv(1) == b""  # it was aborted
            load.wait_for_answers(50)
    after = wait_until(lambda: (workers := running.both()) != before and workers)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
    assert len(set(before.values()) & set(after.values())) == 1
    code, _, errors = running.end()
    assert code == 0
    assert "has been stuck for 4 s, aborting it" in errors
    assert "Fatal Python error: Aborted" in errors
    assert re.search(r'program.py", line \d+ in request_filter', errors)
    assert "was killed by SIGABRT, starting another now" in errors


def test_a_killed_supervisor_leaves_nobody_listening_and_cuts_nothing(proxy):
    running = proxy("--workers", "2")
    workers = running.both().values()
    with running.connect("/download") as client:
        received = client.recv(100)
        running.process.kill()
        running.process.wait(60)
        wait_until(running.is_refusing_port)
        while more := client.recv(65536):
            received += more
    assert received.endswith(b"\r\n0\r\n\r\n")
    wait_until(lambda: not any(map(is_running, workers)))


def test_a_killed_generation_is_loaded_again_and_loses_nothing(proxy):
    running = proxy("--workers", "2")
    with Load(running.port) as load:
        os.kill(running.ask("status")["status"]["generations"][0]["pid"], signal.SIGKILL)
        wait_until(lambda: running.ask("status")["status"]["generations"][-1]["number"] == 2)
        load.wait_for_answers(50)
    assert (load.outcome.lost, load.outcome.reasons) == (0, [])
