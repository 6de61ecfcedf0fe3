"""TcpProxy: connections passed on byte for byte, whatever protocol they speak."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Generic

from pingora.hook_types import Ctx, MaybeAsync
from pingora.load_balancing import LoadBalancer
from pingora.retry import RetryPolicy
from pingora_c.net.tls_hello import ClientHello
from pingora_c.proxy.failure import ProxyError
from pingora_c.proxy.tcp_session import TcpSession
from pingora_c.upstream.peer import HttpPeer

if TYPE_CHECKING:
    from pingora.tls import Certificate


class TcpProxy(Generic[Ctx]):
    """A proxy for connections. Override the hooks you need, each as `def` or `async def`.

    Set `self.upstreams` to a LoadBalancer, or override `upstream_peer`. With `reads_client_hello` the first message of
    a TLS client is read before an upstream is chosen, without decrypting anything: `session.server_name` and
    `session.alpn` have what it asks for. A hook that raises ends the connection.

    Of `retry`, `attempts` and `total_timeout` count: an upstream that cannot be connected to is followed by another.
    `hook_timeouts` is as for ProxyHttp. What hooks share stands in `session.ctx`; `TcpProxy[State]` names its type.
    """

    upstreams: LoadBalancer = None  # type: ignore[assignment]  # chooses unless `upstream_peer` does
    retry: RetryPolicy = RetryPolicy()
    hook_timeouts: ClassVar[Mapping[str, float]] = {}
    reads_client_hello: bool = False

    def close(self) -> MaybeAsync[None]:
        """Let go of what the object holds; see ProxyHttp.close. May be `async def`."""

    async def worker_start(self) -> None:
        """Make what hooks need on the worker's event loop; see ProxyHttp.worker_start."""

    async def worker_stop(self) -> None:
        """End what `worker_start` began."""

    def certificate(self, client_hello: ClientHello) -> MaybeAsync["Certificate | None"]:
        """Choose the certificate for a listener with TLS; see ProxyHttp.certificate."""

    def connection_filter(self, session: TcpSession[Ctx]) -> MaybeAsync[bytes | None]:
        """Look at a client before anything else.

        When: once, behind its TLS handshake if the listener has TLS. Returns: None to go on; bytes to send instead and
        end the connection with, b"" for none.
        """

    def upstream_peer(self, session: TcpSession[Ctx]) -> MaybeAsync[HttpPeer]:  # type: ignore[empty-body]
        """Choose where the connection goes.

        When: once per attempt. Returns: an HttpPeer. Default: `self.upstreams` chooses, without Python.
        """

    def logging(self, session: TcpSession[Ctx], error: ProxyError | None) -> MaybeAsync[None]:
        """Log a connection that has ended. When: last, always. Returns: nothing."""
