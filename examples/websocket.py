"""Chat moderation: each message of a WebSocket goes through a hook on its way.

Start an origin first that says again what it hears, with `pip install websockets`:

    python3 -c '
    from websockets.sync.server import serve
    serve(lambda chat: [chat.send(message) for message in chat], "127.0.0.1", 9001).serve_forever()'

Then `python3 -m websockets ws://127.0.0.1:8080/` and try

    hello           comes back
    what a darn     comes back with stars
    /time           is answered by the proxy, the origin does not see it
    spam spam spam  closes with code 4000, for the client and the origin alike
"""

import re
import time

from pingora import DROP, LoadBalancer, ProxyHttp, Server, WebSocketClose

LISTEN = "127.0.0.1:8080"
ORIGINS = ["127.0.0.1:9001"]
WORDS = re.compile(r"\b(darn|heck)\b", re.IGNORECASE)


class Moderated(ProxyHttp):
    def __init__(self, origins=ORIGINS):
        self.upstreams = LoadBalancer(origins)

    async def websocket_message(self, session, ctx, direction, message):
        if direction == "downstream" or isinstance(message, bytes):
            return None  # as it is
        if message == "/time" and session.websocket:
            await session.websocket.send("downstream", time.strftime("%X"))
            return DROP
        if message.count("spam") > 2:
            return WebSocketClose(4000, "no advertising")
        return WORDS.sub(lambda found: "*" * len(found[0]), message)


server = Server()
server.add_proxy(Moderated(), LISTEN)

if __name__ == "__main__":
    server.run()
