"""What the fuzz targets of parsers that are asked again as more bytes come have in common."""

import sys

import atheris
from guarded import Guarded


def fuzz(parse, reference, most):
    """Compare `parse` with the slow `reference`, whole and cut where an input's first byte says; `most` bytes each."""
    memory = Guarded(most)

    def test_one_input(data):
        if not data:
            return
        cut, data = data[0] % len(data), data[1:most]
        expected = reference(data)
        whole = parse(memory.at_end(data))
        assert whole == expected, (whole, expected)
        first = parse(memory.at_end(data[:cut]))
        assert first[0] == 0 or first == expected, (first, expected, cut)

    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
