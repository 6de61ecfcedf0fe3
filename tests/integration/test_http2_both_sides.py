"""HTTP/2 on both sides: what a client's frames become at an origin of HTTP/2, and what of its answers comes back."""

import threading

import pytest
from h2_upstream import To
from hpack import Encoder
from http2_frames import GET, POST, FrameClient, replaced
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame


@pytest.fixture
def ask(proxy_factory, h2_origin):
    """Give a function that sends one request through a proxy to an origin; its answer, and what the origin got."""

    def exchange(fields=GET, answer=None, **request):
        origin = h2_origin(answer)
        with FrameClient(proxy_factory(To(origin.address))) as client:
            client.request(fields, **request)
            got = client.answer()
        (arrived,) = origin.requests
        return got, arrived

    return exchange


@pytest.fixture
def converse(proxy_factory, h2_origin):
    """Give a function that starts a client of a proxy before an origin that `script` speaks for."""
    clients = []

    def start(script):
        clients.append(FrameClient(proxy_factory(To(h2_origin.raw(lambda peer, number: script(peer)).address))))
        return clients[-1]

    yield start
    for client in clients:
        client.sock.close()


def head(stream, encoder, status, *fields, end=False):
    """The head of an answer."""
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    return HeadersFrame(stream, data=encoder.encode([(":status", str(status)), *fields]), flags=flags)


def test_a_request_arrives_with_its_pseudo_fields(ask):
    fields = replaced(GET, path="/p?q=1", authority="shop.test:81")
    _, arrived = ask([*fields, ("x-two", "2"), ("te", "trailers")])
    assert dict(arrived.headers[:4]) == {name.encode(): value.encode() for name, value in fields}
    assert (arrived.get(b"x-two"), arrived.get(b"te"), arrived.get(b"host")) == (b"2", b"trailers", None)


def test_trailers_go_both_ways_without_grpc(ask):
    got, arrived = ask(
        [*POST, ("te", "trailers")],
        lambda request: (200, [], b"answer", [(b"x-sum", b"2")]),
        body=b"abc",
        trailers=[("x-sum", "1")],
    )
    assert (arrived.body, arrived.trailers) == (b"abc", [(b"x-sum", b"1")])
    assert (got["body"], got["trailers"], got["reset"]) == (b"answer", {"x-sum": "2"}, None)


def test_trailers_may_follow_a_head_without_a_body(ask):
    got, _ = ask(answer=lambda request: (200, [], b"", [(b"x-sum", b"0")]))
    assert (got["status"], got["body"], got["trailers"]) == (200, b"", {"x-sum": "0"})


def test_crumbs_of_a_cookie_arrive_as_one_value(ask):
    _, arrived = ask([*GET, ("cookie", "a=1"), ("x-between", "x"), ("cookie", "b=2"), ("cookie", "c=3")])
    assert [value for name, value in arrived.headers if name == b"cookie"] == [b"a=1; b=2; c=3"]


def test_cookies_that_an_answer_sets_stay_apart(converse):
    def script(peer):
        stream = peer.start()
        peer.send(head(stream, Encoder(), 200, ("set-cookie", "a=1"), ("set-cookie", "b=2"), end=True))
        peer.rest()

    client = converse(script)
    client.request()
    answer = client.until(lambda frame: isinstance(frame, HeadersFrame))
    assert [value for name, value in answer.fields if name == "set-cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("method", "status", "fields"),
    [
        ("HEAD", 200, {"content-length": "5"}),
        ("HEAD", 200, {}),
        ("GET", 204, {}),
        ("GET", 304, {"etag": '"a"'}),
        ("GET", 200, {"content-length": "0"}),
    ],
)
def test_an_answer_without_a_body_ends_with_its_head(converse, method, status, fields):
    def script(peer):
        stream = peer.start()
        peer.send(head(stream, Encoder(), status, *fields.items(), end=True))
        peer.rest()

    client = converse(script)
    client.request(replaced(GET, method=method))
    answer = client.until(lambda frame: isinstance(frame, HeadersFrame))
    assert "END_STREAM" in answer.flags
    got = dict(answer.fields)
    assert got[":status"] == str(status)
    assert {name: got[name] for name in ("content-length", "etag") if name in got} == fields
    assert client.is_alive()


def test_several_interim_answers_come_before_the_final_one(converse):
    def script(peer):
        stream = peer.start()
        encoder = Encoder()
        peer.send(*(head(stream, encoder, 103, ("link", link)) for link in ("</a>", "</b>")))
        peer.answer(stream)
        peer.rest()

    client = converse(script)
    client.request()
    got = client.answer()
    assert got["interim"] == [(103, {"link": "</a>"}), (103, {"link": "</b>"})]
    assert (got["status"], got["body"]) == (200, b"ok")


def test_an_answer_larger_than_the_windows_arrives_whole(ask):
    got, arrived = ask(POST, lambda request: (200, [], request.body * 30, []), body=b"x" * 16384)
    assert arrived.body == b"x" * 16384
    assert got["body"] == b"x" * 16384 * 30


def test_a_later_stream_may_be_answered_first(converse):
    has_come = threading.Event()

    def script(peer):
        first = peer.start()
        peer.answer(peer.request(), b"second")
        assert has_come.wait(20)
        peer.answer(first, b"first")
        peer.rest()

    client = converse(script)
    client.request(stream_id=1)
    client.request(stream_id=3)
    assert client.answer(3)["body"] == b"second"
    has_come.set()
    assert client.answer(1)["body"] == b"first"


def test_a_clients_reset_becomes_one_of_the_origins_stream(converse):
    codes = []

    def script(peer):
        stream = peer.start()
        peer.send(HeadersFrame(stream, data=b"\x88", flags=["END_HEADERS"]), DataFrame(stream, data=b"part"))
        reset = peer.next(RstStreamFrame)
        codes.append((reset.stream_id == stream, reset.error_code))
        peer.answer(peer.request(), b"next")
        peer.rest()

    client = converse(script)
    client.request()
    client.until(lambda frame: isinstance(frame, DataFrame))
    client.send(RstStreamFrame(1, error_code=8))
    client.request(stream_id=3)
    assert client.answer(3)["body"] == b"next"
    assert codes == [(True, 8)]
