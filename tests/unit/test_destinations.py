"""Destinations of tunnels: what an entry allows."""

from ipaddress import ip_address

import pytest

from pingora.destinations import Destinations


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "is_held"),
    [
        pytest.param("a.example:443", "a.example", 443, "192.0.2.1", True, id="a name in full, wherever it is"),
        pytest.param("a.example:443", "a.example", 444, "1.1.1.1", False, id="another port"),
        pytest.param("a.example:443", "b.a.example", 443, "1.1.1.1", False, id="below a name"),
        pytest.param("a.example:400-499", "a.example", 443, "1.1.1.1", True, id="within ports"),
        pytest.param("*.example:443", "a.b.example", 443, "1.1.1.1", True, id="below a pattern"),
        pytest.param("*.example:443", "example", 443, "1.1.1.1", False, id="a pattern's own name"),
        pytest.param("*.example:443", "an.badexample", 443, "1.1.1.1", False, id="a name that ends so"),
        pytest.param("*.example:443", "a.example", 443, "10.0.0.1", False, id="a pattern, private"),
        pytest.param("*:443", "a.example", 443, "1.1.1.1", True, id="all"),
        pytest.param("*:443", "a.example", 443, "127.0.0.1", False, id="all, loopback"),
        pytest.param("*:443", "a.example", 443, "169.254.169.254", False, id="all, of a link"),
        pytest.param("*:443", "a.example", 443, "224.0.0.1", False, id="all, multicast"),
        pytest.param("*:443", "a.example", 443, "0.0.0.0", False, id="all, unspecified"),
        pytest.param("*:443", "a.example", 443, "fd00::1", False, id="all, unique local"),
        pytest.param("*:443", "a.example", 443, "64:ff9b::7f00:1", False, id="all, through NAT64"),
        pytest.param("*:443", "a.example", 443, "2002:7f00:1::", False, id="all, through 6to4"),
        pytest.param("*:443", "a.example", 443, "2606:4700::1111", True, id="all, IPv6"),
        pytest.param("10.0.0.0/8:22", "db.example", 22, "10.1.2.3", True, id="a network, by name"),
        pytest.param("10.0.0.0/8:22", "10.1.2.3", 22, "10.1.2.3", True, id="a network, by address"),
        pytest.param("10.0.0.0/8:22", "11.1.2.3", 22, "11.1.2.3", False, id="outside a network"),
        pytest.param("[2001:db8::/32]:22", "a.example", 22, "2001:db8::1", True, id="a network of IPv6"),
    ],
)
def test_an_entry_holds_what_it_says(entry, host, port, address, is_held):
    destinations = Destinations([entry])
    assert destinations.hold(host, port, ip_address(address)) is is_held
    assert destinations.may_hold(host, port) or not is_held


@pytest.mark.parametrize(
    ("host", "port", "may"),
    [("a.example", 443, True), ("b.example", 443, False), ("a.example", 80, False), ("1.1.1.1", 443, False)],
)
def test_names_that_no_entry_means_are_not_looked_up(host, port, may):
    assert Destinations(["a.example:443"]).may_hold(host, port) is may


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a.example", "expected 'host:port'"),
        ("a.example:https", "expected 'host:port'"),
        ("a.example:0", "ports are from 1 to 65535"),
        ("a.example:9-8", "the smaller one first"),
        ("a.*.example:443", "expected a name"),
        ("10.0.0.1/8:22", "expected a name"),
        (":443", "expected a name"),
        ("http://a.example:443", "expected a name"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        Destinations([entry])


def test_a_text_is_no_list():
    with pytest.raises(TypeError, match="expected a list"):
        Destinations("a.example:443")
