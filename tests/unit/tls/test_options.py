"""What stands behind the "?" of an address, for listeners and upstreams."""

import pytest
from pki import Authority

from pingora.tls.listen import files_of_address, parse_listen
from pingora.tls.options import options_of
from pingora.tls.targets import parse_target


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {}),
        ("cert=a&key=b&cert=c", {"cert": ["a", "c"], "key": ["b"]}),
        ("cert=a+b", {"cert": ["a+b"]}),
        ("cert=a%20b%2Bc%26d", {"cert": ["a b+c&d"]}),
        ("cert=a=b", {"cert": ["a=b"]}),
        ("cert=b%C3%BC%zz", {"cert": ["bü%zz"]}),
        ("&cert&&key=", {"cert": [""], "key": [""]}),
        ("cert=a;key=b", {"cert": ["a;key=b"]}),
    ],
)
def test_options_by_name(query, options):
    assert options_of(query) == options


def test_names_of_files_may_have_a_plus_sign(tmp_path):
    ca = Authority()
    chain, key = ca.issue("a.test").write(tmp_path, "a+b")
    listen = f"tls://127.0.0.1:0?cert={chain}&key={key}"
    assert files_of_address(listen) == [str(chain), str(key)]
    (certificate,) = parse_listen(listen, None).tls.certificates
    assert certificate.names == {"a.test"}
    target = parse_target(f"https://127.0.0.1:1?ca={chain}&cert={chain}&key={key}")
    assert target.tls.certificate.names == {"a.test"}
