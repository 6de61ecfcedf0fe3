"""Fuzz target: a head is judged as the slow reference does, whole and in two parts, and goes out as a head again.

The first byte of an input chooses what it is (request, response, trailers) and the limits, the second where it is cut.
"""

import sys

import atheris
import slow_head
from guarded import Guarded

from pingora_c.h1 import framing, head, probe

KINDS = [
    (head.parse_request, slow_head.parse_request),
    (head.parse_response, slow_head.parse_response),
    (head.parse_trailers, slow_head.parse_trailers),
]
LIMITS = [{}, {"fields": 2}, {"head_bytes": 64}, {"head_bytes": 64, "fields": 1}]
MEMORY = Guarded(4096)


def is_cut_well(parse, data, cut, limits, whole):
    """Return whether `data` in two parts is judged as it is whole."""
    first = parse(MEMORY.at_end(data[:cut]), **limits)
    if first != slow_head.INCOMPLETE:
        return first == whole
    seen = {} if parse is head.parse_trailers else {"seen": cut}
    return parse(MEMORY.at_end(data), **seen, **limits) == whole


def head_pairs(data):
    return [(name, value) for name, value, _ in head.parse_request(data)[4]]


def check_sent_on(data):
    """What the proxy makes of a good request has one reading, and it is ours."""
    sent = probe.load_request(data)
    if isinstance(framing.request_body(head_pairs(data)), int):
        return  # it is refused
    out = probe.request_bytes(sent, framing="chunked", client=b"1.2.3.4")
    found = slow_head.parse_request(out, fields=200)
    assert not isinstance(found, int), (out, found)
    assert found[0] == len(out), out
    result = framing.request_body([(name, value) for name, value, _ in found[4]])
    assert not isinstance(result, int), (out, result)
    assert result["kind"] == "chunked", out


def test_one_input(data):
    if len(data) < 2:
        return
    parse, slow = KINDS[data[0] % 3]
    limits = LIMITS[data[0] // 3 % 4]
    cut = data[1] % len(data)
    data = data[2:]
    whole = parse(MEMORY.at_start(data), **limits)
    expected = slow(data, **limits)
    assert slow_head.agree(whole, expected), (whole, expected)
    assert is_cut_well(parse, data, cut, limits, whole), (whole, cut)
    if parse is head.parse_request and not isinstance(whole, int) and not isinstance(parse(data), int):
        check_sent_on(data)


atheris.Setup(sys.argv, test_one_input)
atheris.Fuzz()
