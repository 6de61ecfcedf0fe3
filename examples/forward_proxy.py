"""A forward proxy: tunnels (CONNECT) for members, to a list of places and nowhere else.

Try

    curl -x http://ada:secret@127.0.0.1:8080 https://www.python.org/      a tunnel to a name of the list
    curl -x http://ada:secret@127.0.0.1:8080 https://localhost/           403: not on the list, and not public
    curl -x http://127.0.0.1:8080 https://www.python.org/                 407: who are you?
"""

import base64
import hmac

from pingora import ForwardProxy, Response, Server

LISTEN = "127.0.0.1:8080"
ALLOWED = ["*.python.org:443", "pypi.org:443", "10.20.0.0/16:22"]
MEMBERS = {"ada": "secret"}


class Tunnels(ForwardProxy):
    def request_filter(self, session, ctx):
        scheme, _, encoded = session.request.headers.get("proxy-authorization", "").partition(" ")
        if scheme.lower() != "basic" or not self.is_member(encoded):
            return Response(407, {"proxy-authenticate": 'Basic realm="tunnels"'}, "who are you?\n")

    def is_member(self, encoded):
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return False
        return hmac.compare_digest(MEMBERS.get(name, "").encode(), password.encode()) and name in MEMBERS


server = Server(access_log="combined")
server.add_proxy(Tunnels(ALLOWED), LISTEN)

if __name__ == "__main__":
    server.run()
