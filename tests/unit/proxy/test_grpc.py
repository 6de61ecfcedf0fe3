"""What the proxy knows of gRPC: which requests are calls, how long they may take, and what it answers by itself."""

import pytest

from pingora import Response
from pingora_c.http.message import RequestHead
from pingora_c.proxy.grpc import probe


def call(content_type="application/grpc", **fields):
    headers = {"content-type": content_type} | {name.replace("_", "-"): value for name, value in fields.items()}
    return RequestHead("POST", "/echo.Echo/Say", headers)


@pytest.mark.parametrize(
    ("content_type", "is_call"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc;charset=utf-8", True),
        ("Application/gRPC+proto", True),
        ("application/grpc-web", False),
        ("application/grpc-web-text+proto", False),
        ("application/grpcx", False),
        ("application/grp", False),
        ("text/plain", False),
    ],
)
def test_a_content_type_says_whether_it_is_a_call(content_type, is_call):
    assert probe(call(content_type))[0] == is_call


def test_a_request_without_content_type_is_no_call():
    assert not probe(RequestHead("GET", "/"))[0]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1H", 3_600_000),
        ("99999999H", 99_999_999 * 3_600_000),
        ("2M", 120_000),
        ("3S", 3000),
        ("20m", 20),
        ("2500u", 2),
        ("1u", 1),
        ("1n", 1),
        ("99999999n", 99),
        ("0S", 1),
        ("123456789S", 0),
        ("S", 0),
        ("", 0),
        ("5", 0),
        ("5s", 0),
        ("-5S", 0),
        ("5 S", 0),
        ("\xb2S", 0),
    ],
)
def test_timeouts(text, ms):
    assert probe(call(grpc_timeout=text))[1] == ms


def test_a_timeout_of_another_request_counts_for_nothing():
    assert probe(call("text/plain", grpc_timeout="1S"))[1] == 0


@pytest.mark.parametrize(
    ("http", "grpc"),
    [(400, 13), (401, 16), (403, 7), (404, 12), (413, 8), (429, 8), (502, 14), (503, 14), (504, 4), (418, 2), (200, 2)],
)
def test_the_status_of_an_answer_made_here(http, grpc):
    answer = probe(call(), Response(http, {"content-type": "text/plain", "x-mine": "1"}, "no\n"))[2]
    assert answer.status == 200
    assert answer.body == b""
    assert answer.headers["content-type"] == "application/grpc"
    assert answer.headers["grpc-status"] == str(grpc)
    assert answer.headers["grpc-message"] == "no"
    assert answer.headers["x-mine"] == "1"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("100 % \u00e4\n", "100 %25 %C3%A4"),
        ("a\r\nb", "a%0D%0Ab"),
        (b"\xff", "%EF%BF%BD"),
        ("", "HTTP status 403"),
        ("x" * 5000, "x" * 1024),
    ],
)
def test_the_message_is_encoded(body, message):
    assert probe(call(), Response(403, None, body))[2].headers["grpc-message"] == message


def test_the_reason_of_a_failure_is_the_message():
    assert (
        probe(call(), Response(502, None, "a page"), b"connect_failed")[2].headers["grpc-message"] == "connect_failed"
    )


def test_an_answer_that_speaks_grpc_stays():
    answer = Response(200, {"content-type": "application/grpc", "grpc-status": "5"})
    assert probe(call(), answer)[2] is answer
