"""Header fields changed on the way there and back, and an id that both sides and the log can name.

Start an origin first: `python3 -m http.server 9001`. Then try

    curl -i http://127.0.0.1:8080/                            x-request-id and the security fields, no server
    curl -i -H 'x-request-id: 42' http://127.0.0.1:8080/      the id that the client gave
"""

import logging
import uuid

from pingora import LoadBalancer, ProxyHttp, Server

LISTEN = "127.0.0.1:8080"
ORIGINS = ["127.0.0.1:9001"]
SECURITY = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

log = logging.getLogger("rewrite_headers")


class Rewriting(ProxyHttp):
    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins)

    def new_ctx(self):
        return {}

    def early_request_filter(self, session, ctx):
        ctx["id"] = session.request.headers.get("x-request-id") or str(uuid.uuid4())

    def upstream_request_filter(self, session, request, ctx):
        request.headers["x-request-id"] = ctx["id"]
        request.headers.remove("cookie")  # all fields of that name; no error if there is none

    def response_filter(self, session, response, ctx):
        response.headers.remove("server")
        response.headers.update(SECURITY)
        response.headers["x-request-id"] = ctx["id"]
        response.headers.add("vary", "accept-encoding")  # beside those that are there

    def logging(self, session, error, ctx):
        log.info("%s %s %s", ctx["id"], session.request.method, session.request.target)


server = Server()
server.add_proxy(Rewriting(), LISTEN)

if __name__ == "__main__":
    server.run()
