"""Options of a peer: those of its balancer, and what one request sets beside them; the words that they may be."""

from typing import get_args, get_type_hints

import pytest

from pingora import Endpoint, HttpPeer, LoadBalancer, PeerOptions, TlsSettings, UpstreamTls
from pingora.tls.rules import VERSIONS
from pingora_c.upstream.peer import PROTOCOLS

TIMES = ("connect", "read", "first_byte", "write", "total", "idle", "head")


def times(peer):
    return tuple(getattr(peer, f"{name}_timeout_ms") for name in TIMES)


def peer_of(options, **more):
    return HttpPeer(LoadBalancer(["127.0.0.1:1"], peer=options).endpoints[0], **more)


CASES = {
    "defaults": (None, {}, (5000, 60000, 60000, 60000, 0, 60000, 30000)),
    "of the balancer": (
        PeerOptions(1, 2, 3, 4, 5, 6, 7),
        {},
        (1000, 2000, 3000, 4000, 5000, 6000, 7000),
    ),
    "read stands for two": (PeerOptions(read_timeout=2), {}, (5000, 2000, 2000, 2000, 0, 60000, 30000)),
    "of the request": (
        PeerOptions(1, 2, 3, 4, 5, 6, 7),
        {"connect_timeout": 7, "total_timeout": 8},
        (7000, 2000, 3000, 4000, 8000, 6000, 7000),
    ),
    "read of the request": (
        PeerOptions(read_timeout=2),
        {"read_timeout": 9},
        (5000, 9000, 9000, 9000, 0, 60000, 30000),
    ),
    "read beside a given first byte": (
        PeerOptions(read_timeout=2, first_byte_timeout=1),
        {"read_timeout": 9},
        (5000, 9000, 1000, 9000, 0, 60000, 30000),
    ),
    "all of the request": (
        None,
        {f"{name}_timeout": i for i, name in enumerate(TIMES, 1)},
        (1000, 2000, 3000, 4000, 5000, 6000, 7000),
    ),
}


@pytest.mark.parametrize(("options", "more", "expected"), CASES.values(), ids=CASES)
def test_times(options, more, expected):
    assert times(peer_of(options, **more)) == expected


def test_an_address_without_a_balancer_has_the_defaults():
    assert times(HttpPeer("127.0.0.1:1", read_timeout=3)) == (5000, 3000, 3000, 3000, 0, 60000, 30000)
    assert times(HttpPeer(Endpoint("127.0.0.1:1"))) == (5000, 60000, 60000, 60000, 0, 60000, 30000)


def test_a_peer_with_nothing_of_its_own_is_the_one_of_its_endpoint():
    endpoint = LoadBalancer(["127.0.0.1:1"], peer=PeerOptions(connect_timeout=7)).endpoints[0]
    peer = HttpPeer(endpoint)
    assert HttpPeer(endpoint) is HttpPeer(*[endpoint]) is peer
    other = HttpPeer(endpoint, read_timeout=1)
    assert (other is peer, times(other)[:2], times(peer)[:2]) == (False, (7000, 1000), (7000, 60000))
    assert HttpPeer(endpoint, group=1) is not HttpPeer(endpoint, group=1)
    assert isinstance(peer, HttpPeer)


@pytest.mark.parametrize("wrong", [(), (None,), (1,), ("127.0.0.1:1", 2)])
def test_arguments_that_make_no_peer_are_refused(wrong):
    with pytest.raises(TypeError):
        HttpPeer(*wrong)


def test_an_endpoint_that_stays_keeps_the_options_and_a_new_one_gets_them():
    balancer = LoadBalancer(["127.0.0.1:1"], peer=PeerOptions(connect_timeout=1))
    balancer.update(["127.0.0.1:1", "127.0.0.1:2"])
    assert [HttpPeer(endpoint).connect_timeout_ms for endpoint in balancer.endpoints] == [1000, 1000]


def test_tls_and_its_name_come_from_the_endpoint_unless_the_request_says_otherwise():
    tls, other = UpstreamTls(verify=False), UpstreamTls(verify=False, min_version="1.3")
    endpoint = LoadBalancer(["https://localhost:1"], tls=tls).endpoints[0]
    assert (HttpPeer(endpoint).tls, HttpPeer(endpoint).server_name) == (tls, "localhost")
    named = HttpPeer(endpoint, server_name="b.test", group="x")
    assert (named.tls, named.server_name, named.group) == (tls, "b.test", "x")
    assert HttpPeer(endpoint, group="x").server_name == "localhost"
    assert HttpPeer(endpoint, tls=other, server_name="b.test").tls is other
    assert HttpPeer(endpoint, tls=other).server_name == "localhost"
    assert HttpPeer(endpoint, tls=UpstreamTls(verify=False, server_name="c.test")).server_name == "c.test"
    local = Endpoint("unix:/a", tls=tls, server_name="d.test")
    assert HttpPeer(local, tls=UpstreamTls()).server_name == "d.test"


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("bad", [0, -1, 86401], ids=str)
def test_times_that_make_no_sense_are_refused(name, bad):
    with pytest.raises(ValueError, match=f"{name}_timeout: expected"):
        PeerOptions(**{f"{name}_timeout": bad})
    with pytest.raises(ValueError, match=f"{name}_timeout: expected"):
        HttpPeer("127.0.0.1:1", **{f"{name}_timeout": bad})


WRONG = {
    "a time as text": ({"read_timeout": "3s"}, "read_timeout: expected a number of seconds, got '3s'"),
    "tls as a switch": ({"tls": True}, "tls: expected an UpstreamTls, got True: tls=UpstreamTls()"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_no_option_can_be_is_named(options, message):
    with pytest.raises(TypeError) as caught:
        HttpPeer("127.0.0.1:1", **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", [UpstreamTls, TlsSettings], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ["min_version", "max_version"])
def test_types_name_the_versions_that_are_taken(kind, name):
    assert get_args(get_type_hints(kind)[name]) == tuple(VERSIONS)


def test_a_type_names_the_protocols_that_are_taken():
    assert get_args(get_type_hints(PeerOptions)["protocol"]) == PROTOCOLS
