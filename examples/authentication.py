"""Bearer tokens: who has none gets 401, the origin learns who it is, and a connection is not asked twice.

Start an origin first: `python3 -m http.server 9001`. Then try

    curl -i http://127.0.0.1:8080/                                         401
    curl -i -H 'authorization: Bearer ada-secret' http://127.0.0.1:8080/   200
"""

from hmac import compare_digest  # tells nothing by the time it takes

from pingora import LoadBalancer, ProxyHttp, Response, Server

LISTEN = "127.0.0.1:8080"
ORIGINS = ["127.0.0.1:9001"]
TOKENS = {"ada": b"ada-secret", "bob": b"bob-secret"}


class Guarded(ProxyHttp):
    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins)

    def new_ctx(self):
        return {"checked": (b"", None)}  # a field's value and the user that it proved to be

    def on_connection_reuse(self, session, persisted, ctx):
        ctx["checked"] = persisted

    async def request_filter(self, session, ctx):
        given = session.request.headers.get("authorization", "").encode()
        if not compare_digest(given, ctx["checked"][0]):  # never by the connection alone: others may share it
            ctx["checked"] = (given, await self.user_of(given))
        if ctx["checked"][1] is None:
            return Response(401, {"www-authenticate": 'Bearer realm="example"'}, "who are you?\n")

    async def user_of(self, given):  # the place to ask a service, see docs/hooks.md
        return next((user for user, secret in TOKENS.items() if compare_digest(given, b"Bearer " + secret)), None)

    def upstream_request_filter(self, session, request, ctx):
        request.headers.remove("authorization")
        request.headers["x-user"] = ctx["checked"][1]  # replaces what the client may have sent

    def persist_connection_context(self, session, ctx):
        return ctx["checked"]


server = Server()
server.add_proxy(Guarded(), LISTEN)

if __name__ == "__main__":
    server.run()
