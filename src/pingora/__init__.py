"""A programmable HTTP proxy: write a class whose methods are phases of a request; a compiled core carries the bytes."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pingora.background import BackgroundService
    from pingora.forward import ForwardProxy
    from pingora.grpc_web import GrpcWeb
    from pingora.limits import Limits
    from pingora.load_balancing import (
        Discovery,
        DnsDiscovery,
        Endpoint,
        FnvHash,
        HealthCheck,
        HttpHealthCheck,
        Ketama,
        LeastConnections,
        LoadBalancer,
        NoUpstream,
        PassiveHealth,
        Random,
        RoundRobin,
        Selection,
        TcpHealthCheck,
    )
    from pingora.load_balancing.upkeep import BalancerService
    from pingora.modules import HttpModule
    from pingora.peer import PeerOptions
    from pingora.proxy import ProxyHttp
    from pingora.proxy_protocol import AcceptProxyProtocol
    from pingora.retry import RetryPolicy
    from pingora.rings import Ring
    from pingora.server import Server
    from pingora.serving import serve
    from pingora.snapshots import publish, shared
    from pingora.tcp import TcpProxy
    from pingora.tls import Certificate, ClientAuth, TlsSettings, UpstreamTls
    from pingora.transport import Carrier, Transport, serve_connection
    from pingora_c.http.header_map import HeaderMap
    from pingora_c.http.message import RequestHead, ResponseHead
    from pingora_c.net.tls_hello import ClientHello
    from pingora_c.proxy.body_filter import LastChunk
    from pingora_c.proxy.failure import ProxyError, SessionEnded
    from pingora_c.proxy.message_filter import DROP, WebSocketClose
    from pingora_c.proxy.response import Response
    from pingora_c.proxy.session import Session
    from pingora_c.proxy.tcp_session import TcpSession
    from pingora_c.proxy.timings import Timings
    from pingora_c.upstream.peer import HttpPeer
else:
    # Where each name is. They are imported when one is asked for: a supervisor and most commands need none of them.
    HOMES = {
        "pingora.background": ("BackgroundService",),
        "pingora.forward": ("ForwardProxy",),
        "pingora.grpc_web": ("GrpcWeb",),
        "pingora.limits": ("Limits",),
        "pingora.load_balancing": (
            "Discovery",
            "DnsDiscovery",
            "Endpoint",
            "FnvHash",
            "HealthCheck",
            "HttpHealthCheck",
            "Ketama",
            "LeastConnections",
            "LoadBalancer",
            "NoUpstream",
            "PassiveHealth",
            "Random",
            "RoundRobin",
            "Selection",
            "TcpHealthCheck",
        ),
        "pingora.load_balancing.upkeep": ("BalancerService",),
        "pingora.modules": ("HttpModule",),
        "pingora.peer": ("PeerOptions",),
        "pingora.proxy": ("ProxyHttp",),
        "pingora.proxy_protocol": ("AcceptProxyProtocol",),
        "pingora.retry": ("RetryPolicy",),
        "pingora.rings": ("Ring",),
        "pingora.server": ("Server",),
        "pingora.serving": ("serve",),
        "pingora.tcp": ("TcpProxy",),
        "pingora.snapshots": ("publish", "shared"),
        "pingora.tls": ("Certificate", "ClientAuth", "TlsSettings", "UpstreamTls"),
        "pingora.transport": ("Carrier", "Transport", "serve_connection"),
        "pingora_c.http.header_map": ("HeaderMap",),
        "pingora_c.http.message": ("RequestHead", "ResponseHead"),
        "pingora_c.net.tls_hello": ("ClientHello",),
        "pingora_c.proxy.body_filter": ("LastChunk",),
        "pingora_c.proxy.failure": ("ProxyError", "SessionEnded"),
        "pingora_c.proxy.message_filter": ("DROP", "WebSocketClose"),
        "pingora_c.proxy.response": ("Response",),
        "pingora_c.proxy.session": ("Session",),
        "pingora_c.proxy.tcp_session": ("TcpSession",),
        "pingora_c.proxy.timings": ("Timings",),
        "pingora_c.upstream.peer": ("HttpPeer",),
    }

    def __getattr__(name):
        """Import all public names at the first use of one: who uses one is a program, whose workers share them all."""
        if name not in __all__:
            raise AttributeError(f"module 'pingora' has no attribute {name!r}")
        for home, names in HOMES.items():
            module = importlib.import_module(home)
            globals().update({one: getattr(module, one) for one in names})
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "DROP",
    "AcceptProxyProtocol",
    "BackgroundService",
    "BalancerService",
    "Carrier",
    "Certificate",
    "ClientAuth",
    "ClientHello",
    "Discovery",
    "DnsDiscovery",
    "Endpoint",
    "FnvHash",
    "ForwardProxy",
    "GrpcWeb",
    "HeaderMap",
    "HealthCheck",
    "HttpHealthCheck",
    "HttpModule",
    "HttpPeer",
    "Ketama",
    "LastChunk",
    "LeastConnections",
    "Limits",
    "LoadBalancer",
    "NoUpstream",
    "PassiveHealth",
    "PeerOptions",
    "ProxyError",
    "ProxyHttp",
    "Random",
    "RequestHead",
    "Response",
    "ResponseHead",
    "RetryPolicy",
    "Ring",
    "RoundRobin",
    "Selection",
    "Server",
    "Session",
    "SessionEnded",
    "TcpHealthCheck",
    "TcpProxy",
    "TcpSession",
    "Timings",
    "TlsSettings",
    "Transport",
    "UpstreamTls",
    "WebSocketClose",
    "publish",
    "serve",
    "serve_connection",
    "shared",
]
