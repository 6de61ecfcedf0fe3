"""TLS: certificates and settings of listeners, and how to connect to upstreams.

server.add_proxy(proxy, ":8443", tls=TlsSettings(Certificate("chain.pem", "key.pem")))
HttpPeer("10.0.0.7:443", tls=UpstreamTls(server_name="app.example.com"))
"""

from pingora.tls.certificate import Certificate
from pingora.tls.server import ClientAuth, TlsSettings
from pingora.tls.upstream import UpstreamTls

__all__ = ["Certificate", "ClientAuth", "TlsSettings", "UpstreamTls"]
