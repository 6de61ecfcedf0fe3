"""Clients that a proxy in front introduces by the PROXY protocol, before HTTP and before TLS."""

import json
import logging
import os
import socket
import ssl
import struct

import pytest
from conversations import GET, Forwarding, wait_until
from ending import ENDINGS, Ending
from pki import Authority

from pingora import AcceptProxyProtocol, Certificate, Limits, ProxyHttp, Response, TlsSettings
from pingora.testing import read_all
from pingora_c.prelude.proxy_header import encode

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HERE = ["127.0.0.0/8"]
LINE = b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n"
LINE6 = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"
INET = bytes([192, 0, 2, 1, 203, 0, 113, 9]) + struct.pack("!HH", 56324, 443)
BINARY = encode(2, (bytes([192, 0, 2, 1]), 56324), (bytes([203, 0, 113, 9]), 443))
HEADERS = "pingora_proxy_headers_total"


def with_tlvs(*tlvs):
    data = INET + b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in tlvs)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(data)) + data


def refusals(proxy, reason):
    return proxy.serving.counters[f'pingora_connections_refused_total{{reason="{reason}"}}']


class Telling(ProxyHttp):
    """Answers with what hooks see of the client."""

    def upstream_peer(self, session, ctx):
        raise AssertionError

    def request_filter(self, session, ctx):
        told = session.proxy_protocol
        seen = {"client": session.client_address, "tls": session.tls is not None}
        if told is not None:
            seen |= {"version": told.version, "source": told.source, "destination": told.destination}
            seen |= {"authority": told.authority, "alpn": told.alpn, "n_tlvs": len(told.tlvs)}
            seen["id"] = told.unique_id.hex() if told.unique_id else None
        return Response(200, {"Content-Type": "application/json"}, json.dumps(seen))


def tell(proxy, header, timeout=10):
    with proxy.connect(timeout) as client:
        client.sendall(header + GET)
        return json.loads(read_all(client).partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (LINE, "192.0.2.1:56324"),
        (LINE6, "[2001:db8::1]:56324"),
        (BINARY, "192.0.2.1:56324"),
        (with_tlvs((4, bytes(3000))), "192.0.2.1:56324"),
    ],
    ids=["line", "line6", "binary", "binary_of_3_KiB"],
)
def test_the_client_is_the_one_that_was_introduced(proxy_factory, header, client):
    proxy = proxy_factory(Telling(), proxy_protocol=HERE)
    seen = tell(proxy, header)
    assert seen["client"] == seen["source"] == client
    assert seen["destination"].endswith(":443")
    assert proxy.serving.counters[HEADERS] == 1


@pytest.mark.parametrize("header", [LINE, LINE6, BINARY, with_tlvs((5, b"id"))], ids=["line", "line6", "binary", "tlv"])
@pytest.mark.parametrize("where", ["127.0.0.1:0", "unix:@"], ids=["tcp", "unix"])
def test_a_header_may_come_byte_by_byte(proxy_factory, tmp_path, header, where):
    proxy = proxy_factory(
        Telling(), listen=f"{where}{os.getpid()}/{tmp_path.name}" if "@" in where else where, proxy_protocol=HERE
    )
    with proxy.connect(10) as client:
        if client.family == socket.AF_INET:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen = proxy.serving.reactor.n_ticks
        for at in range(len(header)):
            client.sendall(header[at : at + 1])
            seen = wait_until(lambda seen=seen: (now := proxy.serving.reactor.n_ticks) > seen and now)
        client.sendall(GET)
        assert b'"client": "192.0.2.1:56324"' in (answer := read_all(client)) or b"2001:db8::1" in answer


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", encode(2)], ids=["unknown", "local"])
def test_without_addresses_the_client_is_the_proxy_in_front(proxy_factory, header):
    seen = tell(proxy_factory(Telling(), proxy_protocol=HERE), header)
    assert seen["client"].startswith("127.0.0.1:")
    assert seen["source"] is None


def test_what_the_header_carries_besides_reaches_hooks(proxy_factory):
    header = with_tlvs((1, b"h2"), (2, b"example.com"), (5, b"\xabc"), (0xE0, b"own"))
    seen = tell(proxy_factory(Telling(), proxy_protocol=HERE), header)
    assert (seen["alpn"], seen["authority"], seen["id"], seen["n_tlvs"]) == ("h2", "example.com", "ab63", 4)


def test_the_header_comes_before_tls(proxy_factory):
    ca = Authority()
    issued = ca.issue("localhost")
    tls = TlsSettings(Certificate(issued.chain, issued.key))
    proxy = proxy_factory(Telling(), tls=tls, proxy_protocol=HERE)
    with proxy.connect(10) as raw:
        raw.sendall(BINARY)
        with ca.trusts().wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(GET)
            seen = json.loads(read_all(client).partition(b"\r\n\r\n")[2])
    assert seen["tls"]
    assert seen["client"] == "192.0.2.1:56324"
    with proxy.connect(10) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        ca.trusts().wrap_socket(raw, server_hostname="localhost")
    assert refusals(proxy, "proxy_header_missing") == 1


def test_upstreams_and_logs_are_told_the_introduced_client(proxy_factory, origin_factory, caplog):
    origin = origin_factory(OK)
    proxy = proxy_factory(Forwarding(origin.address), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        client.sendall(LINE + GET)
        assert read_all(client).endswith(b"hi")
    assert b"x-forwarded-for: 192.0.2.1\r\n" in origin.heads[0].lower()
    caplog.set_level(logging.WARNING)
    with proxy.connect(10) as client:
        client.sendall(LINE + b"BAD /\r\n\r\n")
        assert b" 400 " in read_all(client)
    wait_until(lambda: "client 192.0.2.1:56324" in caplog.text)


def test_limits_of_a_client_are_those_of_the_introduced_one(proxy_factory):
    proxy = proxy_factory(Telling(), Limits(client_connections=1), proxy_protocol=HERE)
    keep = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with proxy.connect(10) as first, proxy.connect(10) as second, proxy.connect(10) as third:
        first.sendall(LINE + keep)
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
        second.sendall(LINE + GET)
        assert read_all(second).startswith(b"HTTP/1.1 503 ")
        third.sendall(LINE6 + GET)
        assert read_all(third).startswith(b"HTTP/1.1 200")
    assert refusals(proxy, "client_connections") == 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (GET, "proxy_header_missing"),
        (LINE.replace(b"192", b"1920") + GET, "proxy_header_bad_line"),
        (b"PROXY UNKNOWN " + b"x" * 200, "proxy_header_too_long"),
        (BINARY[:12] + b"\x22" + BINARY[13:] + GET, "proxy_header_bad_version"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x05hello" + GET, "proxy_header_bad_length"),
        (with_tlvs((5, bytes(200))) + GET, "proxy_header_bad_tlv"),
        (with_tlvs((3, bytes(4))) + GET, "proxy_header_bad_checksum"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_connection_without_a_right_header_is_closed(proxy_factory, caplog, sent, reason):
    caplog.set_level(logging.WARNING)
    proxy = proxy_factory(Telling(), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        client.sendall(sent)
        assert read_all(client) == b""
    wait_until(lambda: refusals(proxy, reason) == 1)
    wait_until(lambda: f"refused: {reason}, status 0, client 127.0.0.1:" in caplog.text)
    assert proxy.serving.counters["pingora_requests_total"] == proxy.serving.counters[HEADERS] == 0


@pytest.mark.parametrize("sent", [LINE[:20], BINARY[:20]], ids=["line", "binary"])
def test_a_header_that_is_cut_or_slow_ends_the_connection(proxy_factory, sent):
    proxy = proxy_factory(Telling(), Limits(proxy_header_timeout=0.05), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        client.sendall(sent)
        assert read_all(client) == b""
    wait_until(lambda: refusals(proxy, "proxy_header_timeout") == 1)
    proxy = proxy_factory(Telling(), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    wait_until(lambda: refusals(proxy, "proxy_header_truncated") == 1)


def test_a_client_that_says_nothing_is_closed_in_time(proxy_factory):
    proxy = proxy_factory(Telling(), Limits(proxy_header_timeout=0.05), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        assert read_all(client) == b""
    wait_until(lambda: refusals(proxy, "proxy_header_timeout") == 1)
    assert proxy.serving.reactor.admission.n_open == 0


def test_a_client_that_leaves_before_it_speaks_is_no_fault(proxy_factory):
    proxy = proxy_factory(Telling(), proxy_protocol=HERE)
    proxy.connect().close()
    assert tell(proxy, LINE)["client"] == "192.0.2.1:56324"
    wait_until(lambda: proxy.serving.reactor.admission.n_open == 0)
    assert not [name for name, value in proxy.serving.counters.items() if "proxy_header_" in name and value]


def test_a_peer_that_is_not_trusted_is_served_as_itself_and_may_introduce_nobody(proxy_factory, caplog):
    caplog.set_level(logging.WARNING)
    proxy = proxy_factory(Telling(), proxy_protocol=["192.0.2.0/24"])
    assert tell(proxy, b"")["client"].startswith("127.0.0.1:")
    for header in (LINE, BINARY):
        with proxy.connect(10) as client:
            client.sendall(header + GET)
            assert read_all(client) == b""
    wait_until(lambda: refusals(proxy, "proxy_header_untrusted") == 2)
    wait_until(lambda: caplog.text.count("refused: proxy_header_untrusted") == 2)


def test_where_a_header_is_optional_both_kinds_of_client_are_served(proxy_factory):
    optional = AcceptProxyProtocol(HERE, required=False)
    proxy = proxy_factory(Telling(), Limits(proxy_header_timeout=0.05), proxy_protocol=optional)
    assert tell(proxy, LINE)["client"] == "192.0.2.1:56324"
    assert tell(proxy, b"")["client"].startswith("127.0.0.1:")
    with proxy.connect(10) as client:
        client.sendall(LINE[:20])
        assert read_all(client) == b""
    wait_until(lambda: refusals(proxy, "proxy_header_timeout") == 1)
    with proxy.connect(10) as silent:  # for a protocol in which the server speaks first it is handed over
        wait_until(lambda: proxy.serving.counters["pingora_connections_accepted_total"] == 3)
        silent.sendall(GET)
        assert b"127.0.0.1:" in read_all(silent)


def test_clients_that_wait_to_be_introduced_count_as_connections(proxy_factory):
    proxy = proxy_factory(Telling(), Limits(connections=2), proxy_protocol=HERE)
    with proxy.connect(10) as first, proxy.connect(10) as second:
        first.sendall(b"P")
        second.sendall(b"P")
        wait_until(lambda: proxy.serving.reactor.admission.n_open == 2)
        with proxy.connect(10) as third:
            third.sendall(LINE + GET)
            wait_until(lambda: proxy.serving.counters['pingora_accept_pauses_total{reason="connections"}'])
            first.close()
            assert read_all(third).startswith(b"HTTP/1.1 200")


def test_the_end_of_serving_closes_who_waits_to_be_introduced(proxy_factory):
    proxy = proxy_factory(Telling(), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        client.sendall(b"PROXY ")
        wait_until(lambda: proxy.serving.reactor.admission.n_open == 1)
        proxy.close()
        assert read_all(client) == b""


def test_a_network_that_is_none_is_told():
    with pytest.raises(ValueError, match=r"proxy_protocol: '10\.0\.0\.0/99' does not appear to be"):
        AcceptProxyProtocol(["10.0.0.0/99"])


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("header", [LINE, BINARY], ids=["line", "binary"])
@pytest.mark.parametrize("n_before", [0, 20], ids=["not begun", "begun"])
def test_a_client_whose_header_is_not_whole_is_waited_for_at_the_end(proxy_factory, how, header, n_before):
    proxy = proxy_factory(Telling(), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        client.sendall(header[:n_before])
        for _ in range(2):  # accepted and read behind it
            assert tell(proxy, LINE)["client"] == "192.0.2.1:56324"
        ending = Ending(proxy, how)
        assert not ending.is_over()
        client.sendall(header[n_before:] + GET)
        answer = read_all(client)
    assert b'"client": "192.0.2.1:56324"' in answer
    ending.finish()


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize(("header_timeout", "seconds"), [(0.3, 20), (20, 0.3)], ids=["its limit", "the deadline"])
def test_a_client_whose_header_never_comes_is_not_waited_for_beyond(proxy_factory, how, header_timeout, seconds):
    proxy = proxy_factory(Telling(), Limits(proxy_header_timeout=header_timeout), proxy_protocol=HERE)
    with proxy.connect(10) as client:
        client.sendall(LINE[:20])
        tell(proxy, LINE)
        ending = Ending(proxy, how, seconds)
        assert read_all(client) == b""
        ending.finish()
