"""How single values are read, where more is to be said than a fault with its place."""

import pytest

from pingora.config.fields import parse_field_name
from pingora_c.proxy.error_page import ErrorPages

KNOWN_NAMES = (
    *("connection", "keep-alive", "proxy-connection", "te", "upgrade", "content-length", "transfer-encoding"),
    *("host", "date", "content-type", "x-reason", "forwarded", "via", "trailer", "expect", "keep-alives"),
)


def test_a_reason_header_is_refused_that_the_core_would_refuse():
    names = [*KNOWN_NAMES, *(name.replace("-", "_") for name in KNOWN_NAMES)]
    for name in names:
        try:
            ErrorPages({}, name)
        except ValueError:
            with pytest.raises(ValueError, match="does not write itself"):
                parse_field_name(name.title())
        else:
            assert parse_field_name(name) == name
