"""An origin of the server Hypercorn: WebSocket over HTTP/1.1 and HTTP/2, in plain and over TLS.

It runs in a process of its own: a Close frame that comes behind its own end is an error that ends its connection.
"""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path


async def application(scope, receive, send):
    """An ASGI application that echoes messages, and answers a GET with its version of HTTP."""
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["http_version"].encode()})


async def echo(scope, receive, send):
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    version = scope["http_version"].encode()
    await send({"type": "websocket.accept", "headers": [(b"x-version", version)], "subprotocol": chosen(scope)})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "leave":
            await send({"type": "websocket.close", "code": 4001, "reason": "as asked"})
            return
        await send({"type": "websocket.send"} | {key: event[key] for key in ("text", "bytes") if event.get(key)})


def chosen(scope):
    return next(iter(scope["subprotocols"]), None)


@contextlib.contextmanager
def hypercorn(*options):
    """Serve on a free port, with more options of the command; its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        number = listener.fileno()
        command = [sys.executable, "-m", "hypercorn", "--workers", "0", "--bind", f"fd://{number}", *options]
        process = subprocess.Popen(
            [*command, "hypercorn_origin:application"],
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONPATH": ""},
            pass_fds=[number],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.kill()
            process.wait()
