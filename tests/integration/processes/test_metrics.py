"""Metrics of all workers at one address: whole, in both formats, and never falling whoever dies or is replaced."""

import contextlib
import http.client
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from configured import PINGORA, Connection, starting, write
from conversations import wait_until
from free_ports import free_port, free_ports
from metrics_text import fetch
from running import TCP_SOURCE

import pingora

UPSTREAM = "upstreams.endpoints = ['127.0.0.1:1']"
LONG = bool(os.environ.get("PINGORA_LONG"))
COUNTING = """
from pingora import metrics

hits = metrics.Counter("hits", "Hits.", labels=["path"])
load = metrics.Gauge("load", "Load.")
sizes = metrics.Histogram("sizes", "Sizes.", buckets=[1, 2])

class Proxy"""
HOOK = """path = session.request.path
        hits.labels(path).inc()
        load.set(1)
        sizes.observe(1.5)
"""
SOURCE = TCP_SOURCE.replace("\nclass Proxy", COUNTING, 1).replace("path = session.request.path\n", HOOK)


@pytest.fixture
def metered(proxy):
    def start(*arguments, **more):
        port = free_port()
        running = proxy("--metrics", f"127.0.0.1:{port}", *arguments, **{"source": SOURCE, **more})
        running.metrics = lambda openmetrics=False: fetch(port, openmetrics)
        wait_until(lambda: can_connect(port))
        return running

    return start


def both(running):
    """Wait for two workers and the agent; give the ids of the workers by their places."""
    serving = wait_until(lambda: len(serving := running.serving()) == 3 and serving)
    return {place: pid for place, pid in serving.items() if place != "agent"}


def can_connect(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def get(port, target="/"):
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    return int(answer.rpartition(b"\r\n\r\n")[2])


def fallen(before, now):
    """Give what has fallen, though it is to grow only."""
    return {name: (n, now.get(name)) for name, n in before.items() if is_monotone(name) and now.get(name, -1) < n}


def is_monotone(name):
    return "process_" not in name and name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))


def requests_of(running):
    return running.metrics()["pingora_requests_total"]


def agent_of(running):
    workers = running.ask("status")["status"]["generations"][-1]["workers"]
    return next((worker["pid"] for worker in workers if worker["number"] == "agent" and worker["pid"]), 0)


def test_all_workers_are_added_up_in_both_formats(metered):
    running = metered("--workers", "2")
    both(running)
    pids = {get(running.port, "/a") for _ in range(40)}
    assert len(pids) == 2
    seen = wait_until(lambda: (now := running.metrics())["pingora_requests_active"] == 0 and now)
    assert {name: seen[name] for name in seen if name.startswith(("hits", "load", "sizes"))} == {
        'hits_total{path="/a"}': 40.0,
        "load": 2.0,
        'sizes_bucket{le="1.0"}': 0.0,
        'sizes_bucket{le="2.0"}': 40.0,
        'sizes_bucket{le="+Inf"}': 40.0,
        "sizes_count": 40.0,
        "sizes_sum": 60.0,
    }
    service = '{service="127.0.0.1:0"}'
    assert seen["pingora_requests_total"] == 40
    assert seen['pingora_service_requests_total{service="127.0.0.1:0",class="2xx"}'] == 40
    assert seen[f"pingora_service_request_duration_seconds_count{service}"] == 40
    assert seen[f"pingora_service_hooks_duration_seconds_count{service}"] == 40
    assert seen['pingora_workers{state="serving"}'] == 2
    processes = {name.partition('"')[2][:-2] for name in seen if name.startswith("pingora_process_open_fds")}
    assert processes == {"supervisor", "generation", "worker-0", "worker-1", "agent"}
    again = running.metrics(openmetrics=True)
    assert {name for name in again if is_monotone(name)} == {name for name in seen if is_monotone(name)}
    assert again[f'pingora_build_info{{version="{pingora.__version__}",python="{platform.python_version()}"}}'] == 1


def test_the_status_shows_the_same_numbers_by_worker_and_in_sum(metered):
    running = metered("--workers", "2")
    workers = both(running)
    by_pid = dict.fromkeys(workers.values(), 0)
    for _ in range(20):
        by_pid[get(running.port)] += 1
    wait_until(lambda: running.metrics()["pingora_requests_active"] == 0)
    status = running.ask("status")["status"]
    assert status["counters"]["pingora_requests_total"] == 20
    rows = [worker for worker in status["generations"][-1]["workers"] if worker["number"] != "agent"]
    assert {worker["pid"]: worker["requests"] for worker in rows} == by_pid
    assert {worker["pid"]: worker["counters"].get("pingora_requests_total", 0) for worker in rows} == by_pid


def test_what_a_killed_worker_has_counted_stays_and_its_gauges_go(metered):
    running = metered("--workers", "2")
    workers = both(running)
    while get(running.port) != workers[0]:
        pass
    clients = [running.connect("/download") for _ in range(8)]
    wait_until(lambda: running.metrics()["pingora_requests_active"] == 8)
    before = running.metrics()
    assert before["pingora_connections_open"] == 8
    for number in (0, 1):
        os.kill(workers[number], signal.SIGKILL)
    after = wait_until(
        lambda: (
            len(new := running.serving()) == 3 and not set(new.values()) & set(workers.values()) and running.metrics()
        )
    )
    for client in clients:
        client.close()
    assert fallen(before, after) == {}
    assert after["pingora_connections_open"] == after["pingora_requests_active"] == 0
    assert "load" not in after
    assert after['pingora_processes_died_total{process="worker"}'] == 2
    get(running.port)
    assert requests_of(running) == before["pingora_requests_total"] + 1
    status = running.ask("status")["status"]
    rows = [worker for worker in status["generations"][-1]["workers"] if worker["number"] != "agent"]
    assert sum(worker["requests"] for worker in rows) == 1  # those of the dead are not theirs
    assert status["counters"]["pingora_requests_total"] == before["pingora_requests_total"] + 1


def test_nothing_falls_over_reloads_and_upgrades(metered):
    running = metered("--workers", "2", "--drain", "1")
    both(running)
    n_asked = 0
    before = running.metrics()
    # by the last upgrade the first supervisor has ended, so that its numbers are taken over
    for command in ("reload", "upgrade", "reload", "ended", "upgrade", "ended", "upgrade"):
        for _ in range(5):
            get(running.port)
            n_asked += 1
        if command == "ended":
            wait_until(lambda: len(supervisors_of(running)) == 1)
            continue
        running.ask(command)
        wait_until(lambda: agent_of(running))
        now = wait_until(lambda: answered(running))
        assert fallen(before, now) == {}
        before = now
    get(running.port)
    n_asked += 1
    wait_until(lambda: requests_of(running) == n_asked)
    seen = running.metrics()
    assert seen['hits_total{path="/"}'] == n_asked
    assert seen['pingora_reloads_total{result="done"}'] == 2
    os.kill(running.ask("status")["status"]["pid"], signal.SIGTERM)


def supervisors_of(running):
    """Give the supervisors of the instance, also those that another one has replaced."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended meanwhile
            is_ours = os.getpgid(int(process.name)) == running.process.pid
            if is_ours and b"pingora\0run\0" in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def answered(running):
    try:
        return running.metrics()
    except (OSError, http.client.HTTPException):
        return None


def test_an_upgrade_that_dies_at_once_takes_no_numbers_with_it(metered):
    running = metered("--workers", "1", "--drain", "1")
    get(running.port)
    running.ask("upgrade")
    get(running.port)
    wait_until(lambda: (now := answered(running)) and now["pingora_requests_total"] == 2)
    new = running.ask("status")["status"]["pid"]
    assert new != running.process.pid
    os.kill(new, signal.SIGKILL)
    wait_until(lambda: served_again(running))
    get(running.port)
    wait_until(lambda: (now := answered(running)) and now["pingora_requests_total"] == 3)


def served_again(running):
    try:
        status = running.ask("status")["status"]
    except Exception:  # nobody is there for a moment
        return False
    return status["pid"] == running.process.pid and status["state"] == "serving"


def test_killing_the_agent_again_and_again_blocks_no_worker_and_loses_no_number(metered):
    running = metered("--workers", "2")
    both(running)
    n_times = 100 if LONG else 8
    n_asked, is_over = [0], threading.Event()

    def ask():
        while not is_over.is_set():
            get(running.port)
            n_asked[0] += 1

    client = threading.Thread(target=ask)
    client.start()
    agents, before = set(), running.metrics()
    try:
        for _ in range(n_times):
            agent = wait_until(lambda: (pid := agent_of(running)) and pid not in agents and pid)
            agents.add(agent)
            so_far = n_asked[0]
            os.kill(agent, signal.SIGKILL)
            wait_until(lambda so_far=so_far: n_asked[0] > so_far + 1)
            now = wait_until(lambda agent=agent: agent_of(running) not in (0, agent) and answered(running))
            assert fallen(before, now) == {}
            before = now
    finally:
        is_over.set()
        client.join()
    wait_until(lambda: requests_of(running) == n_asked[0])
    assert running.metrics()['pingora_processes_died_total{process="agent"}'] == n_times


def test_a_configuration_moves_the_metrics_while_it_runs(tmp_path):
    first, second = free_ports(2)
    lines = ["listeners = ['unix:DIR/a']", UPSTREAM]
    with starting(tmp_path) as start_file:
        running = start_file(write(tmp_path, f"metrics = '127.0.0.1:{first}'", *lines))
        wait_until(lambda: can_connect(first))
        Connection(tmp_path / "a").get()
        wait_until(lambda: fetch(first)["pingora_requests_total"] == 1)
        write(tmp_path, f"metrics = '127.0.0.1:{second}'", *lines)
        running.reload()
        running.expect("has taken over in place")
        wait_until(lambda: can_connect(second))
        assert fetch(second)["pingora_requests_total"] == 1
        assert not can_connect(first)
        write(tmp_path, *lines)
        running.reload()
        running.expect("has taken over in place")
        wait_until(lambda: not can_connect(second))
        running.stop()


@pytest.mark.parametrize("is_by_file", [False, True], ids=["of the program", "of pingora.toml"])
def test_a_refused_reload_leaves_nobody_listening_where_metrics_would_have_been(tmp_path, is_by_file):
    first, second = free_ports(2)

    def change(port, body):
        start = f"import pingora\nclass Proxy(pingora.ProxyHttp):\n    async def worker_start(self):\n        {body}\n"
        if is_by_file:
            (tmp_path / "hook_metered.py").write_text(start)
            hook = "hook = 'hook_metered:Proxy'"
            return write(tmp_path, f"metrics = '127.0.0.1:{port}'", "listeners = ['unix:DIR/a']", UPSTREAM, hook)
        file = tmp_path / "program.py"
        start += "    upstreams = pingora.LoadBalancer(['127.0.0.1:1'])\n"
        start += f"server = pingora.Server(metrics='127.0.0.1:{port}')\n"
        file.write_text(f"{start}server.add_proxy(Proxy(), 'unix:{tmp_path}/a')\n")
        return file

    with starting(tmp_path) as start_file:
        running = start_file(change(first, "pass"))
        wait_until(lambda: can_connect(first))
        change(second, "raise RuntimeError('no database')")
        running.reload()
        assert "no database" in running.expect("reload refused")
        assert not can_connect(second)
        fetch(first)
        change(second, "pass")
        running.reload()
        running.expect("has taken over")
        wait_until(lambda: can_connect(second))
        fetch(second)
        running.stop()


@pytest.mark.parametrize("workers", [0, 1])
def test_server_run_shows_the_metrics_that_its_server_says(tmp_path, workers):
    port, mine = free_ports(2)
    source = SOURCE.replace("pingora.Server()", f"pingora.Server(metrics='127.0.0.1:{port}')")
    source = source.replace("127.0.0.1:0", f"127.0.0.1:{mine}")
    file = tmp_path / "program.py"
    file.write_text(f"{source}\nif __name__ == '__main__':\n    server.run({workers})\n")
    with subprocess.Popen([sys.executable, str(file)]) as process:
        try:
            wait_until(lambda: can_connect(mine) and can_connect(port))
            get(mine)
            seen = wait_until(lambda: (now := fetch(port))["pingora_requests_active"] == 0 and now)
            assert seen['hits_total{path="/"}'] == seen["pingora_requests_total"] == 1
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_an_address_that_is_taken_is_said_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for workers in "01":
            command = [*PINGORA, "run", "--from", "127.0.0.1:0", "--to", "127.0.0.1:1"]
            command += ["--workers", workers, "--metrics", address]
            command += ["--control", str(tmp_path / "control.sock")] if workers == "1" else []
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2
            assert done.stderr.startswith(f"pingora: cannot listen on '{address}': Address already in use; ")
            assert done.stderr.count("\n") == 1
