import logging

from pingora import HttpPeer, LoadBalancer, ProxyHttp, Response, RoundRobin, Server

log = logging.getLogger("gateway")


class Gateway(ProxyHttp):
    def __init__(self):
        self.upstreams = LoadBalancer(["127.0.0.1:9001", "127.0.0.1:9002"], RoundRobin())

    def new_ctx(self):
        return {}

    def request_filter(self, session, ctx):
        if session.request.headers.get("x-api-key") != "secret":
            return Response(403, {"content-type": "text/plain"}, b"no key\n")

    async def upstream_peer(self, session, ctx):
        return HttpPeer(self.upstreams.select())

    def upstream_request_filter(self, session, request, ctx):
        request.headers["x-gateway"] = "pingora"

    def response_filter(self, session, response, ctx):
        response.headers["server"] = "pingora"

    def logging(self, session, error, ctx):
        log.info("%s %s %d %.1f ms", session.request.method, session.request.path, session.response.status, session.timings.total_ms)


server = Server()
server.add_proxy(Gateway(), listen="127.0.0.1:8080")

if __name__ == "__main__":
    server.run()
