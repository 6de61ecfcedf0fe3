"""LoadBalancer: what a user may write as an endpoint."""

import socket

import pytest

from pingora.load_balancing import Endpoint, Ketama, LoadBalancer, NoUpstream, RoundRobin, Selection
from pingora_c.upstream.address import parse_address
from pingora_c.upstream.balancer import Balancer


def resolver(table):
    """A getaddrinfo over `table`: name to IP addresses."""

    def getaddrinfo(host, port, **_):
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
            for ip in table[host]
        ]

    return getaddrinfo


@pytest.fixture
def names(monkeypatch):
    table = {"one": ["10.0.0.1"], "two": ["2001:db8::2", "10.0.0.2", "10.0.0.2"]}
    monkeypatch.setattr(socket, "getaddrinfo", resolver(table))
    return table


def rows(balancer):
    return [(endpoint.address.text, endpoint.weight, endpoint.name) for endpoint in balancer.endpoints]


ENTRIES = {
    "IPv4": ("127.0.0.1:80", [("127.0.0.1:80", 1, "127.0.0.1:80")]),
    "IPv6": ("[0::1]:80", [("[::1]:80", 1, "[0::1]:80")]),
    "Unix": ("unix:/run/a", [("unix:/run/a", 1, "unix:/run/a")]),
    "pair": (("127.0.0.1:80", 3), [("127.0.0.1:80", 3, "127.0.0.1:80")]),
    "address": (parse_address("127.0.0.1:80"), [("127.0.0.1:80", 1, "127.0.0.1:80")]),
    "pair with an address": ((parse_address("127.0.0.1:80"), 2), [("127.0.0.1:80", 2, "127.0.0.1:80")]),
    "name": ("one:80", [("10.0.0.1:80", 1, "one:80")]),
    "name with several addresses": (
        ("two:80", 5),
        [("[2001:db8::2]:80", 5, "two:80"), ("10.0.0.2:80", 5, "two:80")],
    ),
}

REFUSED = {
    "name that does not resolve": (
        "three:80",
        r"'three:80': cannot resolve 'three': Name or service not known; "
        r"correct the name: `getent hosts three` has to find it",
    ),
    "label that is too long": ("x" * 64 + ".example:80", "cannot resolve"),
    "no port": ("one", "host:port"),
    "port 0": ("one:0", "port 0"),
    "scheme": ("ftp://one:80", "expected http://host:port"),
    "path": ("http://one:80/path", "expected no path"),
    "short IPv4": ("127.1:80", "expected an IPv4 address"),
    "hexadecimal IPv4": ("0x7f.0x1:80", "expected an IPv4 address"),
    "bad IPv6": ("[::g]:80", "expected an IPv4 address or an IPv6 address in brackets"),
    "weight 0": (("one:80", 0), "weight 0"),
}


@pytest.mark.parametrize(("entry", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_entry_becomes_endpoints(names, entry, expected):
    assert rows(LoadBalancer([entry])) == expected


@pytest.mark.parametrize(("entry", "reason"), REFUSED.values(), ids=REFUSED)
def test_bad_entry_is_refused_with_the_reason(monkeypatch, names, entry, reason):
    if len(entry) > 64:
        monkeypatch.undo()  # the real resolver refuses it before it asks anybody
    with pytest.raises(ValueError, match=reason):
        LoadBalancer([entry])


def test_two_names_for_one_address_are_refused(names):
    names["alias"] = ["10.0.0.1"]
    with pytest.raises(ValueError, match=r"10\.0\.0\.1:80 occurs twice"):
        LoadBalancer(["one:80", "alias:80"])


def test_text_instead_of_a_list_is_refused():
    with pytest.raises(TypeError, match="a list of addresses"):
        LoadBalancer("127.0.0.1:80")


def test_endpoint_objects_are_taken_as_they_are():
    endpoint = Endpoint("127.0.0.1:80", 2)
    assert LoadBalancer([endpoint]).endpoints == (endpoint,)


def test_round_robin_is_the_default():
    balancer = LoadBalancer(["127.0.0.1:1", "127.0.0.1:2"])
    assert isinstance(balancer.selection, RoundRobin)
    assert [balancer.select().address.port for _ in range(3)] == [1, 2, 1]


def test_core_sees_a_balancer():
    assert isinstance(LoadBalancer(["127.0.0.1:1"]), Balancer)


def test_update_takes_what_the_constructor_takes(names):
    balancer = LoadBalancer(["one:80", "127.0.0.1:1"], Ketama(), key="header:X-User")
    kept = balancer.endpoints[0]
    names["one"].append("10.0.0.3")
    balancer.update(["unix:/run/a", ("one:80", 2)])
    assert rows(balancer) == [
        ("unix:/run/a", 1, "unix:/run/a"),
        ("10.0.0.1:80", 2, "one:80"),
        ("10.0.0.3:80", 2, "one:80"),
    ]
    assert balancer.endpoints[1] is kept


def test_update_with_a_name_that_fails_keeps_the_set(names):
    balancer = LoadBalancer(["one:80"])
    with pytest.raises(ValueError, match="cannot resolve"):
        balancer.update(["one:80", "three:80"])
    assert rows(balancer) == [("10.0.0.1:80", 1, "one:80")]


def test_set_enabled_by_name_switches_all_its_addresses(names):
    balancer = LoadBalancer(["two:80"])
    balancer.set_enabled("two:80", False)
    with pytest.raises(NoUpstream):
        balancer.select()


def test_selection_written_in_python_is_asked():
    class Sticky(Selection):
        def pick(self, key, tried):
            return len(key) % len(self.endpoints)

    balancer = LoadBalancer(["127.0.0.1:1", "127.0.0.1:2"], Sticky())
    assert [balancer.select(key).address.port for key in ("", "a", b"ab", None)] == [1, 2, 1, 1]
