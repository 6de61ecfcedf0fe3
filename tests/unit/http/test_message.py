"""RequestHead and ResponseHead as hooks see them."""

import pytest

from pingora_c.http.message import RequestHead, ResponseHead


def test_path_can_be_set_and_keeps_the_query():
    request = RequestHead("GET", "/a?b=c")
    request.path = "/longer"
    assert request.target == "/longer?b=c"


def test_method_cannot_be_set_to_connect():
    request = RequestHead()
    with pytest.raises(ValueError, match="CONNECT"):
        request.method = "CONNECT"


def test_headers_outlive_the_name_of_their_head():
    headers = ResponseHead(200, {"a": "b"}).headers
    assert headers["a"] == "b"


@pytest.mark.parametrize("host", ["", "a b", "u@a", "a,b", "a/b", "a:b", 'a"'])
def test_a_request_takes_no_host_that_names_nobody(host):
    head = RequestHead("GET", "/", {"Host": "a"})
    with pytest.raises(ValueError, match="expected a name or an address"):
        head.headers["host"] = host
    assert head.host == "a"
    with pytest.raises(ValueError, match="expected a name or an address"):
        RequestHead("GET", "/", {"Host": host})


def test_a_request_takes_one_host():
    head = RequestHead("GET", "/", {"Host": "a"})
    with pytest.raises(ValueError, match="a request has one Host"):
        head.headers.add("host", "b")
    head.headers["HOST"] = "[::1]:80"
    assert list(head.headers.items()) == [("Host", "[::1]:80")]


def test_a_response_may_hold_what_a_request_may_not():
    head = ResponseHead(200, [("Host", "a b"), ("Host", "c")])
    assert head.headers.get_all("host") == ["a b", "c"]
