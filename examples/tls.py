"""TLS on both sides: certificates by name for clients, and an origin whose certificate is verified.

    pingora cert self-signed localhost
    pingora run examples/tls.py
    curl --cacert cert.pem https://localhost:8443/     the proxy tells the origin how the client came

With `client_auth=ClientAuth("clients.pem", required=False)` in TlsSettings, clients are asked for a certificate.
"""

from pingora import Certificate, HttpPeer, ProxyHttp, Server, TlsSettings, UpstreamTls

LISTEN = "127.0.0.1:8443"
ORIGIN = HttpPeer("127.0.0.1:9443", tls=UpstreamTls(ca="cert.pem", server_name="localhost"))


class Edge(ProxyHttp):
    def __init__(self, origin=ORIGIN):
        self.origin = origin

    def upstream_peer(self, session, ctx):
        return self.origin

    def upstream_request_filter(self, session, request, ctx):
        request.headers.remove("x-client-subject")  # nobody but us says who the client is
        if tls := session.tls:
            request.headers["x-tls"] = f"{tls.version} {tls.cipher}"
            if certificate := tls.client_certificate:
                request.headers["x-client-subject"] = certificate.subject


server = Server()
server.add_proxy(Edge(), LISTEN, tls=TlsSettings(Certificate("cert.pem", "key.pem")))

if __name__ == "__main__":
    server.run()
