from typing import final

@final
class Timings:
    """How long the parts of a session took, in milliseconds; -1.0 for what has not happened."""

    @property
    def head_ms(self) -> float:
        """From the head's first byte to its last."""

    @property
    def connect_ms(self) -> float:
        """To a connection to the upstream."""

    @property
    def first_byte_ms(self) -> float:
        """From the head's first byte to the answer's head."""

    @property
    def total_ms(self) -> float:
        """From the head's first byte to the end, or to now."""

    @property
    def hooks_ms(self) -> float:
        """Inside the synchronous parts of hooks."""
