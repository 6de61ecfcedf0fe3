"""JA4 fingerprints beside those of its specification."""

import pytest

from pingora_c.net.tls_hello import make_ja4

# the example of the specification: Chrome, with the values that it sends to find out who ignores what is unknown
CHROME = {
    "version": 0x0304,
    "has_name": True,
    "alpn": ("h2", "http/1.1"),
    "ciphers": (
        0x2A2A, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D,
        0x002F, 0x0035,
    ),
    "extensions": (
        0x3A3A, 0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D, 0x0005, 0x0023, 0x0012, 0x002B, 0xFF01,
        0x000B, 0x000A, 0x0015, 0x1A1A,
    ),
    "signature_algorithms": (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
}  # fmt: skip


def test_the_example_of_the_specification():
    assert make_ja4(**CHROME) == "t13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.mark.parametrize(
    ("change", "head"),
    [
        ({"has_name": False}, "t13i1516h2"),
        ({"version": 0x0303}, "t12d1516h2"),
        ({"version": 0x0A0A}, "t00d1516h2"),
        ({"alpn": ()}, "t13d151600"),
        ({"alpn": ("",)}, "t13d151600"),
        ({"alpn": ("http/1.1",)}, "t13d1516h1"),
        ({"alpn": ("\xab\xcd",)}, "t13d1516ad"),
        ({"ciphers": tuple(range(1, 201))}, "t13d9916h2"),
    ],
)
def test_the_readable_part(change, head):
    assert make_ja4(**CHROME | change).partition("_")[0] == head


def test_the_order_of_ciphers_and_extensions_does_not_count():
    turned = {name: tuple(reversed(CHROME[name])) for name in ("ciphers", "extensions")}
    assert make_ja4(**CHROME | turned) == make_ja4(**CHROME)


def test_a_hello_without_anything():
    empty = {"alpn": (), "ciphers": (), "extensions": (), "signature_algorithms": ()}
    assert make_ja4(**CHROME | empty) == "t13d000000_000000000000_000000000000"
