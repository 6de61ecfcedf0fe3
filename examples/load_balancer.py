"""Load balancing: by weight on one port, and the same origin for the same user or client on another.

Start two origins first: `python3 -m http.server 9001` and `python3 -m http.server 9002`. Then try

    curl http://127.0.0.1:8080/                    port 9001 gets three requests of four
    curl -H 'x-user: ada' http://127.0.0.1:8081/   always the same origin; without x-user the client's address decides
"""

from pingora import HttpPeer, Ketama, LoadBalancer, ProxyHttp, Server

LISTEN = "127.0.0.1:8080"
LISTEN_STICKY = "127.0.0.1:8081"
ORIGINS = [("127.0.0.1:9001", 3), ("127.0.0.1:9002", 1)]


class Weighted(ProxyHttp):
    """No hook at all: the core chooses, without Python. `Ketama(), key="client_ip"` would do so by address."""

    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins)


class Sticky(ProxyHttp):
    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins, Ketama())

    def upstream_peer(self, session, ctx):
        key = session.request.headers.get("x-user") or session.client_address.rpartition(":")[0]
        return HttpPeer(self.upstreams.select(key))  # leaves out what this request has already tried


server = Server()
server.add_proxy(Weighted(), LISTEN)
server.add_proxy(Sticky(), LISTEN_STICKY)

if __name__ == "__main__":
    server.run()
