"""Routes: the beginning of the path chooses the origins and is cut off; what no route knows is 404.

Start two origins first: `python3 -m http.server 9001` and `python3 -m http.server 9002`. Then try

    curl -i http://127.0.0.1:8080/api/     port 9001, which sees /
    curl -i http://127.0.0.1:8080/files/   port 9002, which sees /
    curl -i http://127.0.0.1:8080/other    404
"""

from urllib.parse import unquote

from pingora import HttpPeer, LoadBalancer, ProxyHttp, Response, Server

LISTEN = "127.0.0.1:8080"
ROUTES = {"/api": ["127.0.0.1:9001"], "/files": ["127.0.0.1:9002"]}


class Router(ProxyHttp):
    def __init__(self, routes=ROUTES):
        self.routes = {prefix: LoadBalancer(origins) for prefix, origins in routes.items()}

    def new_ctx(self):
        return {}

    def request_filter(self, session, ctx):
        path = session.request.path  # as the client wrote it: /api/../files would be the origin's to resolve
        if ".." in unquote(path).split("/"):
            return Response(400, {"content-type": "text/plain"}, "no dot segments\n")
        ctx["prefix"] = "/" + path.split("/")[1]
        if ctx["prefix"] not in self.routes:
            return Response(404, {"content-type": "text/plain"}, "no such route\n")

    def upstream_peer(self, session, ctx):
        return HttpPeer(self.routes[ctx["prefix"]].select())

    def upstream_request_filter(self, session, request, ctx):
        request.path = request.path.removeprefix(ctx["prefix"]) or "/"  # the query stays


server = Server()
server.add_proxy(Router(), LISTEN)

if __name__ == "__main__":
    server.run()
