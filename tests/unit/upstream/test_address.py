"""Addresses: text to sockaddr and back."""

import pytest

from pingora_c.upstream.address import Address, parse_address, rebuild_address

ACCEPTED = {
    "IPv4": ("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1", 80),
    "highest port": ("10.0.0.1:65535", "10.0.0.1:65535", "10.0.0.1", 65535),
    "IPv6": ("[::1]:8080", "[::1]:8080", "::1", 8080),
    "IPv6 written long": ("[2001:0DB8:0:0:0:0:0:1]:1", "[2001:db8::1]:1", "2001:db8::1", 1),
    "IPv4 mapped into IPv6": ("[::ffff:10.1.2.3]:80", "10.1.2.3:80", "10.1.2.3", 80),
    "Unix path": ("unix:/run/app.sock", "unix:/run/app.sock", "/run/app.sock", 0),
    "Unix path that is not ASCII": ("unix:/run/äpp.sock", "unix:/run/äpp.sock", "/run/äpp.sock", 0),
    "abstract Unix name": ("unix:@app", "unix:@app", "@app", 0),
    "longest Unix path": ("unix:/" + "p" * 106, "unix:/" + "p" * 106, "/" + "p" * 106, 0),
}

REFUSED = {
    "empty": "",
    "no port": "127.0.0.1",
    "empty port": "127.0.0.1:",
    "empty host": ":80",
    "name": "localhost:80",
    "port 0": "127.0.0.1:0",
    "port past 65535": "127.0.0.1:65536",
    "port of many digits": "127.0.0.1:000080",
    "port with a sign": "127.0.0.1:+80",
    "port with a space": "127.0.0.1: 80",
    "port in other digits": "127.0.0.1:٨٠",
    "short IPv4": "127.1:80",
    "octal IPv4": "0177.0.0.1:80",
    "IPv4 past 255": "256.0.0.1:80",
    "IPv6 without brackets": "::1:80",
    "IPv6 with one bracket": "[::1:80",
    "bracketed IPv4": "[127.0.0.1]:80",
    "zone id": "[fe80::1%eth0]:80",
    "zone number": "[fe80::1%2]:80",
    "NUL in the host": "127.0.0.1\0.example:80",
    "Unix without a path": "unix:",
    "relative Unix path": "unix:run/app.sock",
    "Unix path too long": "unix:/" + "p" * 107,
    "NUL in a Unix path": "unix:/run/a\0b",
    "abstract name that is empty": "unix:@",
    "scheme": "http://127.0.0.1:80",
}


@pytest.mark.parametrize(("text", "canonical", "host", "port"), ACCEPTED.values(), ids=ACCEPTED)
def test_address_is_parsed_to_its_canonical_text(text, canonical, host, port):
    address = parse_address(text)
    assert (address.text, address.host, address.port) == (canonical, host, port)
    assert address.is_unix == text.startswith("unix:")


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_bad_address_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match="address ") as error:
        parse_address(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", [row[0] for row in ACCEPTED.values()], ids=ACCEPTED)
def test_sockaddr_gives_the_same_address_back(text):
    address = parse_address(text)
    assert rebuild_address(address) == address


def test_equality_and_hash_follow_the_canonical_text():
    assert parse_address("[::1]:80") == parse_address("[0:0:0:0:0:0:0:1]:80")
    assert len({parse_address("[::1]:80"), parse_address("[0::1]:80")}) == 1
    assert parse_address("127.0.0.1:80") != parse_address("127.0.0.1:81")
    assert parse_address("127.0.0.1:80") != "127.0.0.1:80"


def test_listener_may_leave_the_host_out():
    address = parse_address(":8080", is_listen=True)
    assert address.text in ("[::]:8080", "0.0.0.0:8080")
    assert address.is_dual_stack == (address.host == "::")
    assert not parse_address("[::]:8080", is_listen=True).is_dual_stack


def test_listener_may_ask_for_any_free_port():
    assert parse_address("127.0.0.1:0", is_listen=True).port == 0


def test_listener_does_not_resolve_names():
    with pytest.raises(ValueError, match="localhost"):
        parse_address("localhost:8080", is_listen=True)


def test_address_is_not_made_by_its_class():
    with pytest.raises(TypeError, match="parse_address"):
        Address()


def test_repr_shows_the_text():
    assert repr(parse_address("[::1]:80")) == "<Address [::1]:80>"
