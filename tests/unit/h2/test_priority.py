"""The reader of priority fields: a dictionary of which two members count (RFC 9218 §4)."""

import pytest
from guarded import Guarded

from pingora_c.h2.probe import priority_of

FIELDS = {
    b"": (3, False),
    b"u=0": (0, False),
    b"u=7": (7, False),
    b"i": (3, True),
    b"i=?1": (3, True),
    b"i=?0": (3, False),
    b"u=5, i": (5, True),
    b" u=5 ,\ti ": (5, True),
    b"u=1,u=2": (2, False),
    b"i, i=?0": (3, False),
    b"u=1;a=2;b, i;c": (1, True),
    b'a="x, u=7", u=2': (2, False),
    b'a="\\", u=7", u=2': (2, False),
    b"a=(1 2), ui=4, u=2": (2, False),
    b"*a=1, u=2": (2, False),
    b"u=8": None,
    b"u=-1": None,
    b"u=10": None,
    b"u=1.0": None,
    b"u": None,
    b"u=": None,
    b"u=a": None,
    b"i=1": None,
    b"i=?2": None,
    b"i=?": None,
    b"i=": None,
    b"u=1 i": None,
    b"u=1,": None,
    b"u=1, ": None,
    b",u=1": None,
    b"u=1,,i": None,
}


@pytest.mark.parametrize(("field", "priority"), FIELDS.items())
def test_a_priority_field_is_read(field, priority):
    assert priority_of(Guarded().at_end(field)) == priority


def test_a_cut_field_is_never_read_beyond_its_end():
    memory = Guarded()
    for field in FIELDS:
        for end in range(len(field)):
            priority_of(memory.at_end(field[:end]))
