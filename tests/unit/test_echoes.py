"""Which signal is a second one, and which the first told twice."""

import signal

from pingora.echoes import ECHO_S, Echoes


def test_a_signal_is_an_echo_for_a_moment_after_the_one_that_counted(monkeypatch):
    moments = iter((0.0, ECHO_S / 2, ECHO_S * 0.9, ECHO_S, ECHO_S * 1.5, ECHO_S * 1.6))
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    echoes = Echoes()
    assert [echoes.is_echo(signal.SIGTERM) for _ in range(5)] == [False, True, True, False, True]
    assert not echoes.is_echo(signal.SIGQUIT)
