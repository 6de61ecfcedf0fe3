"""One end of TLS that seals into memory, so that a test decides when which bytes leave."""

import ssl


class TlsByHand:
    """The end of a handshake over the socket `raw`: a client's that asks for `name`, a server's if that is None."""

    def __init__(self, raw, context, name="localhost"):
        self.raw = raw
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=name is None, server_hostname=name)
        self.until(self.tls.do_handshake)
        self.raw.sendall(self.outgoing.read())  # TLS 1.3: the client has the last word, or the server has tickets

    def until(self, step):
        """Exchange what has to be until `step` is done; give what it gave."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.raw.sendall(self.outgoing.read())
                self.incoming.write(self.raw.recv(65536))

    def seal(self, data):
        """Give the records of `data`."""
        self.tls.write(data)
        return self.outgoing.read()
