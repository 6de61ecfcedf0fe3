"""Fuzz target: a PROXY protocol header is judged as the slow reference does, whole and in two parts.

The first byte of an input says where it is cut.
"""

import sys

import atheris
import slow_proxy_header
from guarded import Guarded

from pingora_c.prelude.proxy_header import parse

MEMORY = Guarded(8192)


def test_one_input(data):
    if not data:
        return
    cut, data = data[0] % len(data), data[1:8192]
    expected = slow_proxy_header.parse(data)
    whole = parse(MEMORY.at_end(data))
    assert whole == expected, (whole, expected)
    first = parse(MEMORY.at_end(data[:cut]))
    assert first[0] == 0 or first == expected, (first, expected, cut)


atheris.Setup(sys.argv, test_one_input)
atheris.Fuzz()
