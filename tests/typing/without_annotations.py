"""Hooks without an annotation: editors with pyright know what `session` is, and flag lines that end with a comment."""

from pingora import LoadBalancer, ProxyHttp, Response


class Gateway(ProxyHttp):
    def __init__(self):
        self.upstreams = LoadBalancer(["127.0.0.1:9001"])

    def request_filter(self, session, ctx):
        if session.request.headers.get("x-api-key") != "secret":
            return Response(403)

    def early_request_filter(self, session, ctx):  # neither None nor a Response
        return "hello"

    async def proxy_upstream_filter(self, session, ctx):
        body = session.read_body()
        return Response(200, body=len(body))  # not awaited

    def upstream_peer(self, session, ctx):  # no HttpPeer in one case
        if session.request.path.startswith("/api/"):
            return self.upstreams.select()

    def response_filter(self, session, response, ctx):
        response.headers["x-number"] = 3  # no text

    async def response_body_filter(self, session, chunk, end, ctx):  # no bytes
        return chunk.decode()

    def logging(self, session, error, ctx):
        print(session.timings.total_ms, session.requst)  # no such attribute
