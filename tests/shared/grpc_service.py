"""A service of grpcio, by bytes: no generated code is needed. Tests that use it skip themselves without grpcio."""

import contextlib
import threading
from concurrent import futures

import grpc

SERVICE = "test.Echo"


def path(name):
    return f"/{SERVICE}/{name}"


class Echo:
    """The methods of the service, and what tests wait for in them."""

    def __init__(self):
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.deadline = None

    def unary(self, request, context):
        context.set_trailing_metadata((("x-size", str(len(request))),))
        return request

    def compressed(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        return request

    def metadata(self, request, context):
        """Give "x-initial…" back before the answer and "x-trailing…" behind it."""
        got = [(name, value) for name, value in context.invocation_metadata()]
        context.send_initial_metadata([pair for pair in got if pair[0].startswith("x-initial")])
        context.set_trailing_metadata([pair for pair in got if pair[0].startswith("x-trailing")])
        return request

    def counts(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()

    def joined(self, requests, context):
        context.add_callback(self.cancelled.set)
        self.begun.set()
        return b"".join(requests)

    def chat(self, requests, context):
        for request in requests:
            yield request.upper()

    def fails(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())

    def waits(self, request, context):
        self.deadline = context.time_remaining()
        context.add_callback(self.cancelled.set)
        yield b"begun"
        self.cancelled.wait(30)

    def handler(self):
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "unary": unary(self.unary),
                "compressed": unary(self.compressed),
                "metadata": unary(self.metadata),
                "counts": stream(self.counts),
                "joined": grpc.stream_unary_rpc_method_handler(self.joined),
                "chat": grpc.stream_stream_rpc_method_handler(self.chat),
                "fails": unary(self.fails),
                "waits": stream(self.waits),
            },
        )


@contextlib.contextmanager
def serving(issued):
    """Serve it at `address`, and with TLS and the certificate that was issued at `tls_address`."""
    service = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((service.handler(),))
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    credentials = grpc.ssl_server_credentials([(issued.key, issued.chain)])
    service.tls_address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    yield service
    server.stop(0).wait()
