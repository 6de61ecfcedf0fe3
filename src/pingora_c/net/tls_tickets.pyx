"""Ticket keys. Own the secret; know no connection."""
cimport cython

import hashlib
import hmac
import os

from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcpy
from pingora_c.lib.openssl cimport (
    CRYPTO_memcmp, EVP_DecryptInit_ex, EVP_EncryptInit_ex, EVP_MAC_init, EVP_aes_256_cbc, OSSL_PARAM,
    OSSL_PARAM_construct_end, OSSL_PARAM_construct_utf8_string, RAND_bytes,
)
from pingora_c.lib.time cimport CLOCK_REALTIME, clock_gettime, timespec

cdef enum:
    IV_SIZE = 16


cdef bytes derive(bytes secret, bytes label):
    return hmac.digest(secret, label, "sha256")


cdef int fill(TicketKey* key, bytes secret) except -1:
    cdef bytes name = derive(secret, b"pingora ticket name")
    cdef bytes cipher = derive(secret, b"pingora ticket cipher")
    cdef bytes mac = derive(secret, b"pingora ticket mac")
    memcpy(key.name, PyBytes_AS_STRING(name), sizeof(key.name))
    memcpy(key.cipher, PyBytes_AS_STRING(cipher), sizeof(key.cipher))
    memcpy(key.mac, PyBytes_AS_STRING(mac), sizeof(key.mac))
    return 0


@cython.final
cdef class TicketKeys:
    """Keys of tickets that are valid for `lifetime` seconds: from `secret`, from what `store` keeps, or from a random
    secret.
    """

    def __init__(self, int64_t lifetime, bytes secret=None, store=None):
        self.lifetime = lifetime
        self.is_given = secret is not None
        if store is not None and not self.is_given:
            self.follow(store)
            return
        self.epoch = self.now() - 1
        self.secret = hashlib.sha256(secret).digest() if self.is_given else os.urandom(32)
        self.begin()

    def follow(self, store not None) -> None:
        """Make keys from what `store` keeps from now on. Raises OSError if it fails, ValueError if a secret was given.

        Tickets that were made before are not opened any more.
        """
        if self.is_given:
            raise ValueError("these keys are made from a secret that was given")
        self.epoch, self.secret = store.secret(self.lifetime, self.now() - 1)
        self.store = store
        self.begin()

    cdef int begin(self) except -1:
        fill(&self.current, self.secret_of(self.epoch))
        self.previous = self.current     # of which there is none if the store is ahead of our clock
        self.advance()
        return 0

    cdef int64_t now(self) noexcept:
        cdef timespec time
        clock_gettime(CLOCK_REALTIME, &time)
        return time.tv_sec // self.lifetime

    cdef bytes secret_of(self, int64_t epoch):
        return derive(self.secret, b"epoch %d" % epoch) if self.is_given else self.secret

    cdef int advance(self) except -1:
        """Take the keys of the present lifetime; the clock may have run through several."""
        cdef int64_t now = self.now()
        if self.epoch >= now:
            return 0
        if self.is_given and now - self.epoch > 1:
            self.epoch = now - 1
            fill(&self.current, self.secret_of(self.epoch))
        while self.epoch < now:
            self.epoch += 1
            if not self.is_given:
                self.secret = derive(self.secret, b"pingora next")
            self.previous = self.current
            fill(&self.current, self.secret_of(self.epoch))
        if self.store is not None:
            try:
                self.store.secret(self.lifetime, self.epoch - 1)    # what was before is forgotten there too
            except Exception:
                pass   # ignored: it is forgotten one lifetime later
        return 0

    cdef int handle(self, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                    bint is_new) noexcept:
        cdef OSSL_PARAM[2] params
        cdef TicketKey* key = &self.current
        if self.epoch < self.now():
            try:
                self.advance()
            except:
                return -1
        if is_new:
            memcpy(name, key.name, sizeof(key.name))
            if RAND_bytes(iv, IV_SIZE) != 1:
                return -1
        elif CRYPTO_memcmp(name, key.name, sizeof(key.name)) != 0:
            key = &self.previous
            if CRYPTO_memcmp(name, key.name, sizeof(key.name)) != 0:
                return 0
        params[0] = OSSL_PARAM_construct_utf8_string(b"digest", b"SHA256", 0)
        params[1] = OSSL_PARAM_construct_end()
        if EVP_MAC_init(mac, key.mac, sizeof(key.mac), params) != 1:
            return -1
        if is_new:
            return 1 if EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1 else -1
        if EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) != 1:
            return -1
        return 1 if key == &self.current else 2

    @property
    def names(self):
        """Names of the present key and of the one before: equal in all processes that share tickets."""
        self.advance()
        return self.current.name[:16], self.previous.name[:16]
