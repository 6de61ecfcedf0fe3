"""A balancer: an endpoint set and a selection algorithm.

Selection is asked for an endpoint given a key and what the session already tried."""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.upstream.endpoint cimport Endpoint, FailureRules

# What the core hashes when it selects without a hook. Validated here, read by the session.
cdef enum KeyKind:
    KEY_NONE = 0         # empty key
    KEY_CLIENT_IP = 1    # text of the client's address, without its port
    KEY_URI = 2          # request target as received
    KEY_HOST = 3         # Host of the request
    KEY_HEADER = 4       # first value of the field `key_name`


cdef class Selection:
    """An algorithm over a fixed tuple of endpoints. Subclassed in select/; a Python subclass overrides `pick`."""
    cdef readonly tuple endpoints      # of Endpoint, index == slot
    cdef object owner                  # weak reference to its balancer, or None: tables serve one set only
    # (re)build the tables for a new set; on an exception the old tables stay
    cdef int build(self, tuple endpoints) except -1
    # The chosen endpoint, or None if peer_available says no to all. `key` may be NULL with size 0 (algorithms that hash
    # then use an empty key). Only a Python subclass's `pick` raises; its exception is passed on.
    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried)


cdef class Balancer:
    cdef readonly Selection selection
    cdef readonly tuple endpoints      # of Endpoint, index == slot; replaced as a whole by `update`
    cdef public KeyKind key_kind
    cdef public bytes key_name         # lower-case field name for KEY_HEADER, else empty
    cdef readonly FailureRules failure_rules   # of all endpoints; None: failures take none out
    cdef readonly object peer_options  # PeerOptions of peers made of its endpoints, None: the defaults
    cdef object __weakref__
    # None: none available. If all are out after failures, none is. Pays no attention to `selection_scope`.
    cdef Endpoint select_endpoint(self, const char* key, size_t key_size, uint64_t tried)


# The balancer in whose set it is, None if there is none.
cdef Balancer owner_of(Endpoint endpoint)


# What one session tried so far, so that `Balancer.select` in a hook leaves it out. The session makes one when an
# attempt has failed, and sets `selection_scope` to it in the context of its hooks.
@cython.final
cdef class SelectionScope:
    cdef Balancer balancer   # whose slots `tried` counts, None before the first
    cdef uint64_t tried      # bit per slot
    # The attempt at `endpoint` failed: leave it out from now on. One of another balancer's set begins anew: it is the
    # fallback of the first. Ignored if it is in no set (the hook made the peer itself, or an update took it away).
    cdef void mark_tried(self, Endpoint endpoint) noexcept


# contextvars.ContextVar of SelectionScope or None (the default); also a Python attribute of the module.
cdef object selection_scope
