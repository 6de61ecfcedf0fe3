"""What a service manager is told, also by one that has no room for it at the moment."""

import contextlib
import socket
import threading

import pytest

from pingora.supervisor import notify

FILLER = b"X=1"


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """The socket of a service manager, which has room for nothing more."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager,
        contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as filling,
    ):
        manager.bind(path)
        manager.settimeout(30)
        filling.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                filling.sendto(FILLER, path)
        yield manager


@pytest.fixture
def notifier(manager):
    return notify.Notifier()


def waiting_in(manager):
    """All messages that are there."""
    manager.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(manager.recv(100))
    return found


def test_a_message_waits_for_room(manager, notifier, monkeypatch):
    monkeypatch.setattr(notify, "PATIENCE_S", 30)
    telling = threading.Thread(target=notifier.send, kwargs={"MAINPID": 5, "READY": 1})
    telling.start()
    while (message := manager.recv(100)) == FILLER:
        pass
    assert message == b"MAINPID=5\nREADY=1"
    telling.join()


def test_it_is_lost_where_there_is_none_for_long(manager, notifier, monkeypatch):
    monkeypatch.setattr(notify, "PATIENCE_S", 0.01)
    notifier.ready("serving")
    assert set(waiting_in(manager)) == {FILLER}


def test_the_watchdog_does_not_wait(manager, notifier, monkeypatch):
    monkeypatch.setattr(notify, "PATIENCE_S", 600)
    feeding = threading.Thread(target=notifier.feed_watchdog, daemon=True)
    feeding.start()
    feeding.join(30)
    assert not feeding.is_alive()
    assert set(waiting_in(manager)) == {FILLER}


def test_a_manager_that_went_away_is_no_failure(manager, notifier):
    manager.close()
    notifier.ready("serving")


def test_the_variables_are_for_the_next_main_process_alone(notifier, tmp_path):
    assert notifier.environment == {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    assert notify.Notifier().environment == {}
