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
