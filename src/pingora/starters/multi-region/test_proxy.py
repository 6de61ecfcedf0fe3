"""What the regions promise, over real sockets. Fixtures are those of pingora's pytest plugin."""

import http.client
import socket

import pytest
from proxy import Regions

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def nobody() -> str:
    """Give an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def region_of_answer(proxy) -> tuple[int, str | None]:
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=20)
    client.request("GET", "/")
    response = client.getresponse()
    return response.status, response.getheader("x-region")


@pytest.mark.parametrize(("networks", "region"), [({}, "eu"), ({"us": ["127.0.0.0/8"]}, "us")])
def test_the_nearest_region_answers(proxy_factory, origin_factory, networks, region):
    regions = {name: [origin_factory(OK).address] for name in ("eu", "us")}
    assert region_of_answer(proxy_factory(Regions("eu", regions, networks))) == (200, region)


def test_the_next_region_answers_if_the_nearest_is_down(proxy_factory, origin_factory):
    regions = {"eu": [nobody()], "us": [origin_factory(OK).address]}
    assert region_of_answer(proxy_factory(Regions("eu", regions, {}))) == (200, "us")


def test_502_if_all_regions_are_down(proxy_factory):
    proxy = proxy_factory(Regions("eu", {"eu": [nobody()], "us": [nobody()]}, {}))
    assert region_of_answer(proxy)[0] == 502


def test_an_unknown_region_is_a_mistake():
    with pytest.raises(ValueError, match="no region asia; there are eu"):
        Regions("asia", {"eu": [nobody()]}, {})
