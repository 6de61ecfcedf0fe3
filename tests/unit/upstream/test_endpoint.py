"""Endpoints: construction and live state."""

import pytest

from pingora_c.upstream.address import parse_address
from pingora_c.upstream.endpoint import Endpoint


def test_endpoint_takes_text_or_an_address():
    assert Endpoint("127.0.0.1:80").address == Endpoint(parse_address("127.0.0.1:80")).address


def test_new_endpoint_is_available_and_unused():
    endpoint = Endpoint("127.0.0.1:80")
    assert endpoint.is_enabled
    assert endpoint.is_healthy
    assert endpoint.is_available
    assert (endpoint.weight, endpoint.in_flight, endpoint.started, endpoint.failed) == (1, 0, 0, 0)


@pytest.mark.parametrize("attribute", ["is_enabled", "is_healthy"])
def test_endpoint_switched_off_is_not_available(attribute):
    endpoint = Endpoint("127.0.0.1:80")
    setattr(endpoint, attribute, False)
    assert not endpoint.is_available


@pytest.mark.parametrize("weight", [0, -1, 65536])
def test_weight_outside_its_range_is_refused(weight):
    with pytest.raises(ValueError, match="weight"):
        Endpoint("127.0.0.1:80", weight)


def test_endpoint_without_a_port_to_connect_to_is_refused():
    with pytest.raises(ValueError, match="port 0"):
        Endpoint(parse_address("127.0.0.1:0", is_listen=True))


@pytest.mark.parametrize("address", [None, 80, b"127.0.0.1:80"])
def test_address_of_another_type_is_refused(address):
    with pytest.raises(TypeError):
        Endpoint(address)


def test_name_is_the_text_as_written():
    assert Endpoint("[0:0::1]:80").name == "[0:0::1]:80"
    assert Endpoint("127.0.0.1:80", name="app-1:80").name == "app-1:80"


def test_repr_shows_address_and_state():
    endpoint = Endpoint("127.0.0.1:80", 3)
    endpoint.is_healthy = False
    assert repr(endpoint) == "<Endpoint 127.0.0.1:80 weight=3 in_flight=0 unhealthy>"
