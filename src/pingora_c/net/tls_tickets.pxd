"""Keys of session tickets, a new one each lifetime; that of the lifetime before still opens what it closed.

All processes that were forked from one, that share a store, or that were given the same secret, make the same keys
from the clock alone.
"""
cimport cython
from libc.stdint cimport int64_t
from pingora_c.lib.openssl cimport EVP_CIPHER_CTX, EVP_MAC_CTX

cdef struct TicketKey:
    unsigned char name[16]     # what tickets say they were made with
    unsigned char cipher[32]   # AES-256-CBC
    unsigned char mac[32]      # HMAC-SHA-256


@cython.final
cdef class TicketKeys:
    cdef readonly int64_t lifetime       # seconds of a key
    cdef int64_t epoch         # lifetimes since 1970 at the last look
    cdef bytes secret          # given: for ever; else that of `epoch`, from which none before can be found
    cdef bint is_given
    cdef object store          # TicketStore whose secret this follows; None: our own
    cdef TicketKey current
    cdef TicketKey previous

    # What OpenSSL's callback asks: 1 (2: with a new ticket, please), 0: the ticket is not ours, -1: failed.
    cdef int handle(self, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                    bint is_new) noexcept
    cdef int64_t now(self) noexcept
    cdef int begin(self) except -1       # with `epoch` and its secret
    cdef int advance(self) except -1
    cdef bytes secret_of(self, int64_t epoch)
