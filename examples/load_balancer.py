"""A load balancer: accepts TLS, balances by weight, shows its metrics to Prometheus. Two origins and a certificate:

    python3 -m http.server 9001 & python3 -m http.server 9002 & pingora cert self-signed localhost
    pingora run examples/load_balancer.py --workers 2

`curl --cacert cert.pem https://localhost:8443/` gets three answers of four from port 9001, and
`curl http://127.0.0.1:9090/metrics` shows it.
"""

from pingora import Certificate, LoadBalancer, ProxyHttp, Server, TlsSettings, metrics

ORIGINS = [("127.0.0.1:9001", 3), ("127.0.0.1:9002", 1)]
by_country = metrics.Counter("requests_by_country", "Requests, by the country that a CDN found.", labels=["country"])


class Balanced(ProxyHttp):
    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins)

    def request_filter(self, session, ctx):
        by_country.labels(session.request.headers.get("cf-ipcountry", "unknown")).inc()


server = Server(metrics="127.0.0.1:9090")
server.add_proxy(Balanced(), "127.0.0.1:8443", tls=TlsSettings(Certificate("cert.pem", "key.pem")))
