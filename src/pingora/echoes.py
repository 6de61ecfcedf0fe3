"""Signals that ask for the end and come twice: sent to a process and to the group it is in, as `timeout` does."""

import time

ECHO_S = 0.25


class Echoes:
    """Tells an echo from a second signal."""

    def __init__(self) -> None:
        self._heard: dict[int, float] = {}

    def is_echo(self, number: int) -> bool:
        """Say whether a signal that came just now is one that came just before."""
        now = time.monotonic()
        if now - self._heard.get(number, float("-inf")) < ECHO_S:
            return True
        self._heard[number] = now
        return False
