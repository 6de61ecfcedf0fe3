"""`python app.py` with `server.run()`: the program is its own supervisor, run again by a reload and an upgrade."""

import os
import signal

import pytest
from configured import Connection
from conversations import wait_until
from own_supervisor import APP

from pingora.supervisor import Refused

THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, name='mine', daemon=True).start()\n"


def test_a_reload_runs_the_program_again_with_its_arguments(app):
    app.start()
    client = Connection(app.path)
    before = client.get().decode().split()
    app.write("two")
    assert app.tell("reload")["text"] == "generation 2 has taken over"
    assert client.get().decode().split() == before, "the connection stays where it was"
    assert app.answer()[:2] == ["two", "given"]
    app.process.send_signal(signal.SIGHUP)
    wait_until(lambda: app.status["reloads"] == 2)
    output, _ = app.end()
    assert output == f"{app.process.pid} is behind run()\n", "once, by the supervisor"
    assert app.process.returncode == 0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param("class", "ended before it was done", id="a syntax error"),
        pytest.param("import pingora", "ended before it was done", id="no run()"),
        pytest.param("import pingora\npingora.Server().run()", "has no proxy", id="no proxy"),
        pytest.param(THREAD + APP, "started threads while it was loaded: mine", id="a thread"),
    ],
)
def test_a_program_that_does_not_come_to_serve_again_changes_nothing(app, source, reason):
    app.start()
    before = app.answer()
    app.write("two", source=source)
    with pytest.raises(Refused, match=reason):
        app.tell("reload")
    assert app.answer() == before
    with pytest.raises(Refused):
        app.tell("upgrade")
    assert app.answer() == before
    assert app.status["pid"] == app.process.pid


def test_an_upgrade_runs_the_program_again_as_the_next_supervisor(app):
    app.start()
    first = app.process.pid
    client = Connection(app.path)
    before = client.get().decode().split()
    app.write("two", workers=2)
    taken_over = app.tell("upgrade")["text"]
    assert client.get().decode().split() == before, "the connection stays where it was"
    second = app.status["pid"]
    assert taken_over == f"process {second} has taken over"
    assert second != first
    assert app.answer()[:2] == ["two", "given"]
    assert len(app.status["generations"][-1]["workers"]) == 2
    client.close()
    assert app.process.wait(timeout=60) == 0, "its worker has no connection any more"
    app.write("three")
    assert app.tell("reload")["text"] == "generation 2 has taken over"
    assert app.answer()[0] == "three"
    output, _ = app.end()
    assert output == f"{first} is behind run()\n{second} is behind run()\n"


def test_a_generation_that_dies_is_made_again(app):
    app.start()
    os.kill(app.status["generations"][0]["pid"], signal.SIGKILL)
    wait_until(lambda: app.status["generations"][-1]["number"] == 2)
    assert app.answer()[:2] == ["one", "given"]
    app.end()


def test_a_program_from_stdin_says_that_it_cannot_be_run_again(app):
    with open(app.file) as source:
        app.start("-", source=source)
    for command in ("reload", "upgrade"):
        with pytest.raises(Refused, match="put it into a file"):
            app.tell(command)
    assert app.answer()[0] == "one"
    app.end()


def test_the_second_run_of_a_program_says_that_running_it_again_would_not_lead_there(app):
    app.write("one", source=f"{APP}main()\n")
    app.start()
    app.tell("stop")
    app.wait_until_it_serves()
    with pytest.raises(Refused, match=r"has called server.run\(\) before"):
        app.tell("reload")
    app.end()
