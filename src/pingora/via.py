"""The name of a proxy in Via (RFC 9110 §7.6.3)."""

import re

from pingora.choices import TOKEN

RECEIVED_BY = re.compile(rf"{TOKEN}(:[0-9]{{1,5}})?")
MOST = 100
WANTED_IN_VIA = f'expected a name such as "edge", or "edge:8080", of at most {MOST} characters'


def is_received_by(text: str) -> bool:
    """Say whether a text is a pseudonym, or one with a port."""
    return len(text) <= MOST and RECEIVED_BY.fullmatch(text) is not None
