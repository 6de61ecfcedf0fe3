"""The same origin for the same user or client: consistent hashing with a key that a hook chooses.

Start two origins first: `python3 -m http.server 9001` and `python3 -m http.server 9002`. Then try

    curl -H 'x-user: ada' http://127.0.0.1:8080/   always the same origin; without x-user the client's address decides

`LoadBalancer(ORIGINS, Ketama(), key="header:x-user")` hashes a field, or "client_ip", without any Python per request.
"""

from pingora import HttpPeer, Ketama, LoadBalancer, ProxyHttp, Server

LISTEN = "127.0.0.1:8080"
ORIGINS = ["127.0.0.1:9001", "127.0.0.1:9002"]


class Sticky(ProxyHttp):
    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins, Ketama())

    def upstream_peer(self, session, ctx):
        key = session.request.headers.get("x-user") or session.client_address.rpartition(":")[0]
        return HttpPeer(self.upstreams.select(key))  # leaves out what this request has already tried


server = Server()
server.add_proxy(Sticky(), LISTEN)

if __name__ == "__main__":
    server.run()
