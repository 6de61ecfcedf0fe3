"""An origin over TLS, of Python's ssl."""

import contextlib
import socket
import threading

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup"


class TlsOrigin:
    """An origin over TLS; `seen` has what each connection told: SNI, ALPN, whether it was resumed, certificate."""

    def __init__(self, context, script=OK):
        self.context, self.script = context, script
        self.seen, self.problems = [], []
        self._names = {}
        context.sni_callback = lambda sock, name, context: self._names.__setitem__(sock, name)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, raw):
        raw.settimeout(10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # answers do not wait for the ACK of tickets
        try:
            with self.context.wrap_socket(raw, server_side=True) as connection:
                self.seen.append(
                    {
                        "sni": self._names.get(connection),
                        "alpn": connection.selected_alpn_protocol(),
                        "resumed": connection.session_reused,
                        "certificate": connection.getpeercert(True),
                    }
                )
                while data := connection.recv(65536):
                    if callable(self.script):
                        self.script(connection, data)
                    else:
                        connection.sendall(self.script)
        except OSError as problem:
            self.problems.append(problem)
        finally:
            raw.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
