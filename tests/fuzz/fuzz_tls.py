"""Fuzz target: TLS clients whose bytes are changed on the way, in a handshake or behind it.

fuzz_tls.py SECONDS: prints the seeds of conversations that ended in another way than they may.
fuzz_tls.py --seed SEED…: has these conversations again.

A conversation that was not touched is answered. One that was is answered as it should be or ends; it never gets
anything else, never hangs, and no other client notices it.
"""

import logging
import random
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from pki import Authority

from pingora import Certificate, ClientAuth, Limits, ProxyHttp, Response, TlsSettings
from pingora.testing import RunningProxy

BODY = "x" * 20000  # more than a record
REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17000\r\nConnection: close\r\n\r\n" + b"y" * 17000
AT_ONCE = 24  # most of the time is spent waiting for the limits of what was cut
FINDINGS_MOST = 20
TIMEOUT_S = 10.0


class Echo(ProxyHttp):
    def upstream_peer(self, session, ctx):
        raise AssertionError

    async def request_filter(self, session, ctx):
        body = await session.read_body(1 << 20)
        assert body == b"y" * 17000, "what a client did not send reached a hook"
        return Response(200, {}, BODY)


class Link:
    """A client's TLS without a socket, and the bytes between."""

    def __init__(self, rng, context):
        self.rng = rng
        self.received, self.sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.received, self.sent, server_hostname="localhost")
        self.touch_at = rng.randrange(0, 2500) if rng.random() < 0.8 else -1  # the byte that something happens to
        self.n_sent = 0
        self.was_touched = False
        self.answer = b""
        self.failure = None

    def outgoing(self):
        data = self.sent.read()
        at = self.touch_at - self.n_sent
        self.n_sent += len(data)
        if not 0 <= at < len(data):
            return data
        self.was_touched = True
        kind = self.rng.randrange(5)
        if kind == 0:
            return data[:at] + bytes([data[at] ^ self.rng.randrange(1, 256)]) + data[at + 1 :]
        if kind == 1:
            return data[:at] + self.rng.randbytes(self.rng.randrange(1, 40)) + data[at:]
        if kind == 2:
            return data[:at] + data[at + self.rng.randrange(1, 40) :]
        if kind == 3:
            return data[:at] + data[max(0, at - self.rng.randrange(1, 200)) : at] + data[at:]
        return data[:at] + self.rng.randbytes(len(data) - at)

    def talk(self, client):
        """Shake hands, ask, and read to the end."""
        steps = [self.tls.do_handshake, lambda: self.tls.write(REQUEST), self.read_all]
        while steps:
            try:
                steps[0]()
                steps.pop(0)
                self.send(client)
            except ssl.SSLWantReadError:
                self.send(client)
                data = client.recv(65536)
                if data:
                    self.received.write(data)
                else:
                    self.received.write_eof()

    def read_all(self):
        while data := self.tls.read(65536):
            self.answer += data

    def send(self, client):
        data = self.outgoing()
        while data:
            size = self.rng.choice([1, 5, 100, len(data)])
            client.sendall(data[:size])
            data = data[size:]


def converse(proxy, context, seed):
    """Return what is wrong, or None."""
    link = Link(random.Random(seed), context)
    began = time.monotonic()
    with proxy.connect(TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            link.talk(client)
        except (ssl.SSLError, ConnectionError) as error:
            link.failure = error
        except TimeoutError:
            return "hangs"
    if time.monotonic() - began > TIMEOUT_S:
        return "took too long"
    head, _, body = link.answer.partition(b"\r\n\r\n")
    is_answered = head.startswith(b"HTTP/1.1 200") and body == BODY.encode()
    if not link.was_touched and not is_answered:
        return f"was not touched, and got {link.answer[:100]!r} and {link.failure!r}"
    if link.was_touched and link.answer and not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 40")):
        return f"got {link.answer[:100]!r}"
    return None


def start():
    """Give proxies without and with client certificates, each with the contexts of its clients."""
    ca = Authority()
    server, alice = ca.issue("localhost"), ca.issue("alice")
    limits = Limits(handshake_timeout=1.0, head_timeout=1.0, body_timeout=1.0, keep_alive=1.0)
    pairs = []
    for auth in (None, ClientAuth(ca.chain)):
        settings = TlsSettings(Certificate(server.chain, server.key), client_auth=auth)
        proxy = RunningProxy(Echo(), limits, settings)
        contexts = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ca.trusts() if auth is None else ca.trusts(alice)
            context.minimum_version = context.maximum_version = version
            contexts.append(context)
        pairs.append((proxy, contexts))
    return pairs


def problem_of(pairs, seed):
    proxy, contexts = pairs[seed % 2]
    return converse(proxy, contexts[seed // 2 % 2], seed)


def batches():
    """Give seeds in portions: those of the command line, or others until the time is over."""
    if sys.argv[1] == "--seed":
        yield list(map(int, sys.argv[2:]))
        return
    first, end = random.SystemRandom().randrange(1 << 40), time.monotonic() + int(sys.argv[1])
    while time.monotonic() < end:
        yield range(first, first + 10 * AT_ONCE)
        first += 10 * AT_ONCE


def main():
    """Search, or repeat; exit with 1 if something was found."""
    logging.disable(logging.CRITICAL)
    pairs = start()
    found = n_talks = 0
    for seeds in batches():
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for seed, problem in zip(seeds, threads.map(lambda seed: problem_of(pairs, seed), seeds), strict=True):
                n_talks += 1
                if problem is not None:
                    found += 1
                    print(f"seed {seed}: {problem}")
        if found >= FINDINGS_MOST:
            break
    for proxy, _ in pairs:
        if (active := proxy.serving.counters["pingora_requests_active"]) != 0:
            found += 1
            print(f"{active} requests are still active")
        proxy.close()
    print(f"{n_talks} conversations, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
