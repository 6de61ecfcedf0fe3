"""Policies for client certificates that would never apply are refused, and so are names that no client asks for."""

import pytest
from pki import Authority

from pingora import Certificate, ClientAuth, TlsSettings
from pingora.tls.listen import parse_listen
from pingora.tls.names import check_host_name


@pytest.fixture(scope="module")
def ca():
    return Authority()


@pytest.fixture(scope="module")
def certificate(ca, tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    ca.issue("a.test").write(directory, "a")
    return directory / "a.pem", directory / "a.key"


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "Admin.Example.com",
        "*.example.com",
        "_dmarc.a-b.example.com.",
        "münchen.example",
        "xn--mnchen-3ya.example",
        "1.example",
        f"{'a' * 63}.test",
    ],
)
def test_a_name_that_a_client_asks_for_is_taken(name):
    check_host_name(name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("localhost:23443", id="port"),
        pytest.param("a b", id="space"),
        pytest.param("*", id="star alone"),
        pytest.param("a.*.test", id="star inside"),
        pytest.param("*a.test", id="star in a label"),
        pytest.param("", id="empty"),
        pytest.param("a..test", id="empty label"),
        pytest.param(".test", id="dot in front"),
        pytest.param("-a.test", id="hyphen in front"),
        pytest.param("a-.test", id="hyphen at the end"),
        pytest.param("https://a.test", id="URL"),
        pytest.param("127.0.0.1", id="IPv4"),
        pytest.param("::1", id="IPv6"),
        pytest.param("a.test\n", id="line"),
        pytest.param(f"{'a' * 64}.test", id="long label"),
        pytest.param("abc." * 63 + "test", id="long name"),
        pytest.param("ü" * 64 + ".test", id="long label of Unicode"),
    ],
)
def test_what_no_client_asks_for_is_refused(certificate, ca, name):
    with pytest.raises(ValueError, match=r"hosts: expected a DNS name such as 'admin\.example\.com', or "):
        TlsSettings(Certificate(*certificate), hosts={name: ClientAuth(ca.chain)})


@pytest.mark.parametrize(
    ("options", "where"),
    [({"client_auth": True}, "client_auth"), ({"hosts": {"a.test": "ca.pem"}}, r"hosts\['a\.test'\]")],
)
def test_what_is_no_policy_is_refused(certificate, options, where):
    with pytest.raises(TypeError, match=f"^{where}: expected a ClientAuth or None, got "):
        TlsSettings(Certificate(*certificate), **options)


def test_an_address_with_lists_of_revoked_certificates_takes_their_authority(certificate):
    chain, key = certificate
    text = f"tls://:0?cert={chain}&key={key}"
    with pytest.raises(ValueError, match="client_crl takes a client_ca=FILE as well"):
        parse_listen(f"{text}&client_crl={chain}", None)
    with pytest.raises(ValueError, match="client CA"):
        parse_listen(f"{text}&client_ca=", None)
