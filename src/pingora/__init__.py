"""A programmable HTTP proxy: write a class whose methods are phases of a request; a compiled core carries the bytes."""

from pingora.background import BackgroundService
from pingora.limits import Limits
from pingora.load_balancing import Endpoint, Ketama, LoadBalancer, NoUpstream, RoundRobin, Selection
from pingora.modules import HttpModule
from pingora.proxy import ProxyHttp
from pingora.proxy_protocol import AcceptProxyProtocol
from pingora.retry import RetryPolicy
from pingora.server import Server
from pingora.serving import serve
from pingora.snapshots import publish, shared
from pingora.tls import Certificate, ClientAuth, TlsSettings, UpstreamTls
from pingora_c.proxy.body_filter import LastChunk
from pingora_c.proxy.failure import ProxyError, SessionEnded
from pingora_c.proxy.response import Response
from pingora_c.proxy.session import Session
from pingora_c.upstream.peer import HttpPeer

__version__ = "0.1.0"

__all__ = [
    "AcceptProxyProtocol",
    "BackgroundService",
    "Certificate",
    "ClientAuth",
    "Endpoint",
    "HttpModule",
    "HttpPeer",
    "Ketama",
    "LastChunk",
    "Limits",
    "LoadBalancer",
    "NoUpstream",
    "ProxyError",
    "ProxyHttp",
    "Response",
    "RetryPolicy",
    "RoundRobin",
    "Selection",
    "Server",
    "Session",
    "SessionEnded",
    "TlsSettings",
    "UpstreamTls",
    "publish",
    "serve",
    "shared",
]
