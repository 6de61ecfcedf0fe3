"""UTF-8 is judged as Python's decoder does."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingora_c.ws.utf8 import is_valid


def decodes(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# Around every boundary of RFC 3629 §4.
OCTETS = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
          0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_sequence_at_the_boundaries_is_judged_like_python(size):
    for octets in itertools.product(OCTETS, repeat=size):
        data = bytes(octets)
        assert is_valid(data) == decodes(data), data


@given(st.text(), st.binary(max_size=3), st.integers(0, 200))
def test_text_with_something_in_it_is_judged_like_python(text, octets, at):
    data = text.encode("utf-8", "surrogatepass")
    data = data[:at] + octets + data[at:]
    assert is_valid(data) == decodes(data)
