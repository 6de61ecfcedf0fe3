"""HeaderMap: an ordered multi-map of validated text."""

import pytest

from pingora_c.http.header_map import HeaderMap


def test_first_value_is_found_in_any_case():
    fields = HeaderMap([("X-A", "1"), ("x-a", "2")])
    assert fields["x-A"] == "1"
    assert fields.get_all("X-a") == ["1", "2"]


def test_set_replaces_all_in_the_place_and_spelling_of_the_first():
    fields = HeaderMap([("A", "1"), ("Foo", "x"), ("B", "2"), ("fOO", "y")])
    fields["FOO"] = "a longer value"
    assert list(fields.items()) == [("A", "1"), ("Foo", "a longer value"), ("B", "2")]


@pytest.mark.parametrize("octet", [*range(9), *range(10, 32), 127])
def test_control_byte_in_value_is_refused(octet):
    fields = HeaderMap()
    with pytest.raises(ValueError, match=f"0x{octet:02X} at position 1"):
        fields["a"] = f"b{chr(octet)}c"
    assert len(fields) == 0
