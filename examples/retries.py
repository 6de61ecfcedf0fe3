"""Retries: what a policy tries again, and what two hooks add to it.

Start one of the two origins only: `python3 -m http.server 9001`. Then try

    curl -i http://127.0.0.1:8080/     200 each time: what 9002 refuses is tried at 9001; the log says so

Stop it, and the same curl gets 503 with Retry-After.
"""

import logging

from pingora import LoadBalancer, ProxyHttp, Response, RetryPolicy, Server

LISTEN = "127.0.0.1:8080"
ORIGINS = ["127.0.0.1:9001", "127.0.0.1:9002"]

log = logging.getLogger("retries")


class Retrying(ProxyHttp):
    # Two tries of two seconds; also after a connection that died before an answer, and after 502 and 503, both only
    # for methods that may be repeated.
    retry = RetryPolicy(attempts=2, try_timeout=2.0, total_timeout=5.0, lost=True, statuses=(502, 503))

    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins)

    def fail_to_connect(self, session, peer, error, ctx):
        log.info("try %d: %s: %s, again: %s", session.attempts, peer.address, error.reason, error.retry)

    def error_while_proxy(self, session, peer, error, reused, ctx):
        if "idempotency-key" in session.request.headers:  # then the origin can tell a repeated POST from a new one
            error.retry = True

    def fail_to_proxy(self, session, error, ctx):
        if error.source == "upstream":
            return Response(503, {"content-type": "text/plain", "retry-after": "5"}, f"{error.reason}\n")


server = Server()
server.add_proxy(Retrying(), LISTEN)

if __name__ == "__main__":
    server.run()
