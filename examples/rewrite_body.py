"""Bodies: a line is put into every page of HTML as it passes, and JSON is checked before the origin sees it.

Start an origin first: `python3 -m http.server 9001`. Then try

    curl http://127.0.0.1:8080/                                                      the banner is before </body>
    curl -H 'content-type: application/json' -d '{"a": ' http://127.0.0.1:8080/      400
"""

import json

from pingora import LoadBalancer, ProxyHttp, Response, Server

LISTEN = "127.0.0.1:8080"
ORIGINS = ["127.0.0.1:9001"]
OLD, NEW = b"</body>", b"<p>Seen by pingora.</p></body>"


class Rewriting(ProxyHttp):
    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins)

    def new_ctx(self):
        return {"tail": b""}

    async def request_filter(self, session, ctx):
        if session.request.headers.get("content-type", "").startswith("application/json"):
            try:
                json.loads(await session.read_body(64 * 1024))  # longer: 413. It is still sent upstream
            except (ValueError, RecursionError):
                return Response(400, {"content-type": "text/plain"}, "the body is not JSON\n")

    def upstream_request_filter(self, session, request, ctx):
        request.headers["accept-encoding"] = "identity"  # compressed HTML could not be searched

    def response_filter(self, session, response, ctx):
        if not response.headers.get("content-type", "").startswith("text/html"):
            session.pass_response_body()  # no filter, and Content-Length stays

    def response_body_filter(self, session, chunk, end, ctx):
        text = (ctx["tail"] + chunk).replace(OLD, NEW)
        cut = len(text) if end else max(0, len(text) - len(OLD) + 1)
        ctx["tail"] = text[cut:]  # OLD may begin here and go on in the next chunk
        return text[:cut]


server = Server()
server.add_proxy(Rewriting(), LISTEN)

if __name__ == "__main__":
    server.run()
