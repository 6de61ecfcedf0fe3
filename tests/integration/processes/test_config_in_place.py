"""A configuration that changes while workers serve it: all of them take it over, or none."""

import os
import signal

import pytest
from configured import Connection, starting, write
from conversations import wait_until

HOOK = """\
import os
from pingora import ProxyHttp, Response


class Counting(ProxyHttp):
    def __init__(self, name, most=1000):
        open(f"{HERE}/made-{name}-{os.getpid()}", "w").close()
        made = len([file for file in os.listdir(HERE) if file.startswith("made-" + name)])
        if made > most:
            raise RuntimeError("one too many")
        self.name = name
        self.count = 0

    @property
    def upstreams(self):
        if self.name == "bad":
            raise RuntimeError("of the user's code")
        return None

    @upstreams.setter
    def upstreams(self, balancer):
        pass

    def request_filter(self, session, ctx):
        self.count += 1
        return Response(200, {}, f"{self.name} {self.count} {os.getpid()}")

    def upstream_peer(self, session, ctx):
        raise AssertionError
"""


@pytest.fixture
def start(tmp_path):
    with starting(tmp_path) as start:
        yield start


@pytest.fixture
def program(tmp_path):
    """Write the file with a hook's options and other lines; the hook is in hook_counting.py."""
    (tmp_path / "hook_counting.py").write_text(f"HERE = {str(tmp_path)!r}\n{HOOK}")

    def program(options, *lines, listeners='"unix:DIR/a"'):
        return write(
            tmp_path,
            f"listeners = [{listeners}]",
            'logs.access = "off"',
            *lines,
            "[hook]",
            'class = "hook_counting:Counting"',
            f"options = {{ {options} }}",
        )

    return program


def ask(path):
    """Give name, count and process of the hook that answers."""
    client = Connection(path)
    name, count, pid = client.get().decode().split()
    client.close()
    return name, int(count), int(pid)


def workers_of(path, number):
    """Ask until so many processes have answered; return what each said last."""
    answers = {}

    def is_complete():
        name, count, pid = ask(path)
        answers[pid] = (name, count)
        return len(answers) == number

    wait_until(is_complete)
    return answers


def test_workers_change_in_place_and_keep_their_hooks(tmp_path, start, program):
    running = start(program('name = "one"'), "--workers", "2")
    before = workers_of(tmp_path / "a", 2)
    client = Connection(tmp_path / "a")
    first = client.get().decode().split()
    program('name = "one"', "limits.fields = 32")
    running.reload()
    running.expect("has taken over in place")
    again = client.get().decode().split()
    assert (again[0], int(again[1]), again[2]) == ("one", int(first[1]) + 1, first[2])
    after = workers_of(tmp_path / "a", 2)
    assert after.keys() == before.keys()
    assert all(after[pid][1] > before[pid][1] for pid in before), "each goes on counting"
    program('name = "two"')
    running.reload()
    running.expect("has taken over in place")
    assert {name for name, _ in workers_of(tmp_path / "a", 2).values()} == {"two"}
    assert client.get().decode().split()[0] == "two", "on the connection that was there"
    running.stop()


def test_a_hook_that_one_worker_cannot_make_changes_nothing_in_any(tmp_path, start, program):
    file = program('name = "one"')
    running = start(file, "--workers", "2")
    before = workers_of(tmp_path / "a", 2)
    program('name = "two", most = 2', listeners='"unix:DIR/a", "unix:DIR/b"')  # a generation and one worker
    running.reload()
    running.expect("reload refused: the configuration cannot be used:")
    line = running.lines.get(timeout=20)
    assert line.startswith(f"{file}:4:9: hook.class: Counting() raised RuntimeError: one too many at ")
    after = workers_of(tmp_path / "a", 2)
    assert after.keys() == before.keys()
    assert {name for name, _ in after.values()} == {"one"}
    with pytest.raises(ConnectionRefusedError):
        ask(tmp_path / "b")
    running.stop()


def test_a_configuration_that_raises_while_it_is_built_changes_nothing(tmp_path, start, program):
    file = program('name = "one"')
    running = start(file, "--workers", "2")
    before = workers_of(tmp_path / "a", 2)
    program('name = "bad"')
    running.reload()
    running.expect("reload refused: the configuration cannot be used:")
    assert running.lines.get(timeout=20) == f"{file}: building it raised RuntimeError: of the user's code\n"
    assert workers_of(tmp_path / "a", 2).keys() == before.keys()
    running.stop()


def test_a_worker_that_is_killed_after_a_reload_comes_back_with_the_new_configuration(tmp_path, start, program):
    running = start(program('name = "one"'), "--workers", "2")
    workers_of(tmp_path / "a", 2)
    program('name = "two"', listeners='"unix:DIR/a", "unix:DIR/b"')
    running.reload()
    running.expect("has taken over in place")
    before = workers_of(tmp_path / "b", 2)
    os.kill(next(iter(before)), signal.SIGKILL)
    running.expect("was killed by SIGKILL")
    for path in ("a", "b"):
        wait_until(lambda path=path: set(workers_of(tmp_path / path, 2)) - set(before))
        assert {name for name, _ in workers_of(tmp_path / path, 2).values()} == {"two"}
    program('name = "three"')
    running.reload()
    running.expect("has taken over in place")
    assert {name for name, _ in workers_of(tmp_path / "a", 2).values()} == {"three"}
    with pytest.raises(ConnectionRefusedError):
        ask(tmp_path / "b")
    running.stop()


def test_code_that_changed_takes_a_new_generation(tmp_path, start, program):
    running = start(program('name = "one"'), "--workers", "1")
    client = Connection(tmp_path / "a")
    (_, _, old) = client.get().decode().split()
    hook = tmp_path / "hook_counting.py"
    hook.write_text(hook.read_text().replace("{self.name} ", "new-{self.name} "))
    running.reload()
    running.expect("generation 2 has taken over")
    name, _, new = ask(tmp_path / "a")
    assert (name, new != int(old)) == ("new-one", True)
    program('name = "two"')
    running.reload()
    running.expect("has taken over in place")
    assert ask(tmp_path / "a")[0] == "new-two"
    running.stop()


def test_the_command_line_holds_after_a_reload(tmp_path, start, program):
    running = start(program('name = "one"'), "--workers", "1", "--access-log", "json")
    ask(tmp_path / "a")
    program('name = "two"')
    running.reload()
    running.expect("has taken over in place")
    assert ask(tmp_path / "a")[0] == "two"
    running.stop()
    assert [line[0] for line in running.output if "GET / HTTP" in line or "GET" in line] == ["{", "{"]


FAILS_TO_COMMIT = """

from pingora.serving import Serving
commit = Serving.commit

def commit_or_fail(serving, change):
    try:
        os.unlink(f"{HERE}/fails")
    except FileNotFoundError:
        return commit(serving, change)
    raise OSError(28, "No space left on device")

Serving.commit = commit_or_fail
"""


def test_a_worker_that_cannot_take_over_is_replaced_and_cuts_nobody(tmp_path, start, program):
    file = program('name = "one"')
    hook = tmp_path / "hook_counting.py"
    hook.write_text(hook.read_text() + FAILS_TO_COMMIT)
    running = start(file, "--workers", "1")
    client = Connection(tmp_path / "a")
    old = client.get().decode().split()[2]
    program('name = "two"')
    (tmp_path / "fails").touch()
    running.reload()
    running.expect(f"worker {old} cannot take over the configuration: [Errno 28] No space left on device, replacing it")
    running.expect("has taken over in place")
    wait_until(lambda: ask(tmp_path / "a")[0] == "two")
    assert client.get().decode().split()[::2] == ["one", old], "on the connection that was there"
    running.stop()
