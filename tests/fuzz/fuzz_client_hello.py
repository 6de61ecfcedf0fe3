"""Fuzz target: a TLS client's hello is judged as the slow reference does, whole and in two parts.

The first byte of an input says where it is cut.
"""

import sys

import atheris
import slow_client_hello
from guarded import Guarded

from pingora_c.prelude.client_hello import parse

MEMORY = Guarded(65536)


def test_one_input(data):
    if not data:
        return
    cut, data = data[0] % len(data), data[1:65536]
    expected = slow_client_hello.parse(data)
    whole = parse(MEMORY.at_end(data))
    assert whole == expected, (whole, expected)
    first = parse(MEMORY.at_end(data[:cut]))
    assert first[0] == 0 or first == expected, (first, expected, cut)


atheris.Setup(sys.argv, test_one_input)
atheris.Fuzz()
