"""Discovery: endpoints that come and go while a balancer is in use."""

import asyncio

import pytest
from conversations import GET, wait_until

from pingora import Discovery, DnsDiscovery, LoadBalancer, ProxyHttp, UpstreamTls
from pingora.load_balancing import discovery as discovery_module
from pingora_c.upstream.address import parse_address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO = OK[:-2] + b"no"


class Scripted(Discovery):
    """Finds what it is given."""

    interval = 0.01

    def __init__(self):
        self.found = []

    async def discover(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_discovery_replaces_the_set_and_keeps_it_when_it_fails(proxy_factory, origin_factory):
    first, second = origin_factory(OK), origin_factory(NO)
    found = Scripted()
    found.found = [first.address]
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer(discovery=found)
    running = proxy_factory(proxy)
    assert running.exchange(GET).endswith(b"ok")  # the start waited for the first endpoints
    kept = proxy.upstreams.endpoints[0]
    found.found = [(second.address, 7), first.address]
    wait_until(lambda: len(proxy.upstreams.endpoints) == 2)
    assert proxy.upstreams.endpoints[1] is kept
    assert proxy.upstreams.endpoints[0].weight == 7
    for bad in (OSError("gone"), [], ["127.0.0.1"], None):
        found.found = bad
    before = proxy.upstreams.endpoints
    assert running.exchange(GET)[-2:] in (b"ok", b"no")
    found.found = [second.address]
    wait_until(lambda: len(proxy.upstreams.endpoints) == 1)
    assert before[0] is proxy.upstreams.endpoints[0]
    assert running.exchange(GET).endswith(b"no")


def test_a_start_without_endpoints_serves_503_until_there_are_some(proxy_factory, origin_factory):
    found = Scripted()
    proxy = ProxyHttp()
    proxy.upstreams = LoadBalancer(discovery=found)
    running = proxy_factory(proxy)
    assert running.exchange(GET).startswith(b"HTTP/1.1 503")
    found.found = [origin_factory(OK).address]
    wait_until(lambda: running.exchange(GET).endswith(b"ok"))


def test_names_are_resolved_anew_and_keep_what_they_had(monkeypatch):
    names = {"app": ["10.0.0.1", "10.0.0.2"]}

    def resolve(text):
        host, _, port = text.rpartition(":")
        if host not in names:
            raise ValueError("cannot resolve")
        return [parse_address(f"{ip}:{port}") for ip in names[host]]

    monkeypatch.setattr(discovery_module, "resolve", resolve)
    dns = DnsDiscovery([("app:80", 3), "10.9.9.9:1", "unix:/run/a"])

    def found():
        return [(one.address.text, one.weight, one.name) for one in asyncio.run(dns.discover())]

    rest = [("10.9.9.9:1", 1, "10.9.9.9:1"), ("unix:/run/a", 1, "unix:/run/a")]
    assert found() == [("10.0.0.1:80", 3, "app:80"), ("10.0.0.2:80", 3, "app:80"), *rest]
    names["app"] = ["10.0.0.3"]
    assert found() == [("10.0.0.3:80", 3, "app:80"), *rest]
    del names["app"]
    assert found() == [("10.0.0.3:80", 3, "app:80"), *rest]
    with pytest.raises(ValueError, match="cannot resolve"):
        asyncio.run(DnsDiscovery(["other:80"]).discover())


def test_discovered_names_have_the_tls_of_the_balancer():
    tls = UpstreamTls(verify=False)
    dns = DnsDiscovery(["localhost:443"])
    balancer = LoadBalancer(discovery=dns, tls=tls)
    balancer.update(asyncio.run(dns.discover()))
    assert {endpoint.tls for endpoint in balancer.endpoints} == {tls}
    assert {endpoint.server_name for endpoint in balancer.endpoints} == {"localhost"}
