"""A hook that holds up a worker is named in the error log while it does; for that, no worker needs a second thread."""

import re
from pathlib import Path

from running import PROGRAM

BLOCKS = """
class Blocks(Proxy):
    def request_filter(self, session, ctx):
        while session.request.path == "/block" and not os.path.exists("FILE"):
            time.sleep(0.01)
        return pingora.Response(200, {}, str(os.getpid()))

server = pingora.Server(limits=pingora.Limits(blocked_after=0.3))
server.add_proxy(Blocks(), "unix:PATH")
"""


def test_a_hook_that_blocks_is_named_once_and_when_it_ends(start, tmp_path):
    file = tmp_path / "go on"
    proxy = start("--workers", "1", source=PROGRAM + BLOCKS.replace("FILE", str(file)))
    pid = proxy.get()
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1  # which its first line in a log changes
    with proxy.send("/block") as client:
        begin = proxy.told()
        assert " pingora.watchdog: hook Blocks.request_filter has blocked the event loop for " in begin
        assert re.search(r"program\.py:\d+ in Blocks\.request_filter: ", begin)
        file.touch()
        assert b"200 OK" in client.recv(65536)
    assert proxy.get() == pid
    code, _, errors = proxy.end()
    assert code == 0
    assert errors.count("has blocked the event loop") == 0
    assert errors.count("hook Blocks.request_filter has ended, the event loop was blocked for ") == 1
