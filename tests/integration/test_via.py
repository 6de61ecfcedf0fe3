"""Via (RFC 9110 §7.6.3): written by setting, behind what the hops before wrote."""

import asyncio

import pytest
from configured import Connection, starting
from conversations import proxy_to
from h2_upstream import To

from pingora import ProxyHttp, Response, RetryPolicy, Server, serve

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n%s\r\nhello"


def asked(proxy, request, **options):
    """Give the answer to a request."""

    async def ask():
        async with serve(proxy, **options) as serving:
            host, port = serving.address.split(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            answer = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return answer

    return asyncio.run(ask())


def vias(head):
    lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return [line.partition(": ")[2] for line in lines if line.lower().startswith("via:")]


GET = "GET / HTTP/1.%d\r\nHost: a\r\nConnection: close\r\n%s\r\n"


@pytest.mark.parametrize(
    ("minor", "fields", "expected"),
    [
        (1, "", ["1.1 edge"]),
        (0, "", ["1.0 edge"]),
        (1, "Via: 1.0 fred, 1.1 p.example\r\nvia: 2.0 last\r\n", ["1.0 fred, 1.1 p.example", "2.0 last", "1.1 edge"]),
        (1, "Connection: via\r\nVia: 1.0 fred\r\n", ["1.1 edge"]),
    ],
    ids=["HTTP/1.1", "HTTP/1.0", "continued", "named by Connection"],
)
def test_a_request_says_how_it_came(origin_factory, minor, fields, expected):
    origin = origin_factory(HELLO % b"")
    asked(proxy_to(origin.address), (GET % (minor, fields)).encode(), via="edge")
    assert vias(origin.heads[0]) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (HELLO % b"", ["1.1 edge:8080"]),
        (HELLO % b"Via: 1.1 origin\r\n", ["1.1 origin", "1.1 edge:8080"]),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", ["1.0 edge:8080"]),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", ["1.1 edge:8080"]),
    ],
    ids=["HTTP/1.1", "continued", "HTTP/1.0", "without a body"],
)
def test_an_answer_says_how_it_came(origin_factory, script, expected):
    answer = asked(proxy_to(origin_factory(script).address), (GET % (1, "")).encode(), via="edge:8080")
    assert vias(answer) == expected


def test_http2_to_an_upstream_has_it_too(h2_origin):
    origin = h2_origin()
    answer = asked(To(origin.address), (GET % (1, "Via: 1.0 fred\r\n")).encode(), via="edge")
    assert [value for name, value in origin.requests[0].headers if name == b"via"] == [b"1.0 fred", b"1.1 edge"]
    assert vias(answer) == ["2.0 edge"]


def test_neither_is_written_by_default(origin_factory):
    origin = origin_factory(HELLO % b"")
    answer = asked(proxy_to(origin.address), (GET % (1, "")).encode())
    assert vias(origin.heads[0]) == vias(answer) == []


def test_an_answer_of_the_proxy_itself_has_none():
    class Answers(ProxyHttp):
        def request_filter(self, session, ctx):
            return Response(200)

        def upstream_peer(self, session, ctx):
            raise AssertionError

    assert vias(asked(Answers(), (GET % (1, "")).encode(), via="edge")) == []


def test_an_attempt_that_is_made_again_says_it_once(origin_factory):
    def script(connection, data):
        asked_before.append(vias(data))
        if len(asked_before) > 1:
            connection.sendall(HELLO % b"")
        connection.close()

    asked_before = []
    proxy = proxy_to(*[origin_factory(script).address for _ in range(2)])
    proxy.retry = RetryPolicy(lost=True)
    assert asked(proxy, (GET % (1, "")).encode(), via="edge").endswith(b"hello")
    assert asked_before == [["1.1 edge"], ["1.1 edge"]]


@pytest.mark.parametrize("name", ["", "a b", "edge\r\nX: y", "a:b", "x" * 101, "a,b", "edge:123456"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match='via: expected a name such as "edge", or "edge:8080", of at most 100 char'):
        Server(via=name)


def test_a_configuration_file_names_it(tmp_path, origin_factory):
    origin = origin_factory(HELLO % b"")
    file = tmp_path / "pingora.toml"
    file.write_text(f'listeners = ["unix:{tmp_path}/a"]\nvia = "edge"\nupstreams.endpoints = ["{origin.address}"]\n')
    with starting(tmp_path) as start:
        running = start(file)
        client = Connection(tmp_path / "a")
        client.request("GET", "/")
        assert client.getresponse().headers.get_all("via") == ["1.1 edge"]
        client.close()
        running.stop()
    assert vias(origin.heads[-1]) == ["1.1 edge"]
