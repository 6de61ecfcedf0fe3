"""Balancers: an endpoint set, a selection over it, and what a session in flight already tried.

Owns the set and the slots of its endpoints. Never sees a request, never resolves names, never connects.
"""
import re
import weakref
from contextvars import ContextVar

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.contextvars cimport get_value
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_SIZE

from pingora_c.lib.tuple cimport PyTuple_GET_ITEM
from pingora_c.upstream.endpoint cimport WEIGHT_MAX, peer_available

KEY_KINDS = {None: KEY_NONE, "client_ip": KEY_CLIENT_IP, "uri": KEY_URI, "host": KEY_HOST}
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")   # RFC 9110 §5.6.2

selection_scope = ContextVar("selection_scope", default=None)
globals()["selection_scope"] = selection_scope       # a cdef variable alone is not visible to Python


class NoUpstream(Exception):
    """No endpoint of the balancer is available, or the session has tried them all."""


cdef Endpoint next_available(tuple endpoints, uint32_t slot, uint64_t tried):
    """The first available endpoint at or after `slot`, cyclic, or None."""
    cdef Py_ssize_t i, n = len(endpoints)
    cdef Endpoint endpoint
    for i in range(n):
        endpoint = <Endpoint>endpoints[(slot + i) % n]
        if peer_available(endpoint, tried):
            return endpoint
    return None


cdef bint force(tuple endpoints, bint is_forced) noexcept:
    """Let those that are out be chosen, or no longer; whether there is one that this could help."""
    cdef Py_ssize_t i
    cdef bint is_any = False
    cdef Endpoint endpoint
    for i in range(PyTuple_GET_SIZE(endpoints)):
        endpoint = <Endpoint>PyTuple_GET_ITEM(endpoints, i)
        endpoint.is_forced = is_forced
        is_any = is_any or (endpoint.out_until_us != 0 and endpoint.is_enabled and endpoint.is_healthy)
    return is_any


cdef list describe(tuple endpoints):
    """Rows (endpoint, weight, name, tls, server_name)."""
    return [row(e, e) for e in endpoints]


cdef tuple row(Endpoint endpoint, Endpoint settings):
    return endpoint, settings.weight, settings.name, settings.tls, settings.server_name


cdef tuple set_rows(list rows):
    """Number the endpoints of `rows` in order and give them their settings; the set."""
    cdef Endpoint endpoint
    cdef uint32_t slot = 0
    for endpoint, weight, name, tls, server_name in rows:
        endpoint.slot = slot
        endpoint.weight = weight
        endpoint.name = name
        if endpoint.tls is not tls or endpoint.server_name != server_name:
            endpoint.tls = tls
            endpoint.server_name = server_name
            endpoint.default_peer = None
        slot += 1
    return tuple([row[0] for row in rows])


cdef bint has_endpoint(Balancer balancer, Endpoint endpoint) noexcept:
    if balancer is None or endpoint.slot >= <uint32_t>PyTuple_GET_SIZE(balancer.endpoints):
        return False
    return PyTuple_GET_ITEM(balancer.endpoints, endpoint.slot) == <PyObject*>endpoint


cdef bytes key_bytes(key):
    if key is None:
        return b""
    if isinstance(key, str):
        return (<str>key).encode("utf-8", "surrogateescape")
    if isinstance(key, bytes):
        return <bytes>key
    raise TypeError(f"key: expected bytes, str or None, got {type(key).__name__}")


cdef class Selection:
    """An algorithm that chooses among the endpoints of one balancer.

    Subclass it in Python and override `pick`; `on_update` tells of each new set.
    """

    def __cinit__(self):
        self.endpoints = ()

    cdef int build(self, tuple endpoints) except -1:
        self.on_update(endpoints)
        self.endpoints = endpoints
        return 0

    cdef Endpoint select(self, const char* key, size_t key_size, uint64_t tried):
        cdef object picked = self.pick(key[:key_size] if key_size else b"", tried)
        cdef Py_ssize_t slot
        if picked is None:
            return None
        if isinstance(picked, Endpoint):
            slot = (<Endpoint>picked).slot
            if slot >= len(self.endpoints) or self.endpoints[slot] is not picked:
                raise ValueError(f"{type(self).__name__}.pick returned {picked!r}, which is not in the balancer's set")
        else:
            slot = picked
            if not 0 <= slot < len(self.endpoints):
                raise ValueError(f"{type(self).__name__}.pick returned slot {slot} of {len(self.endpoints)}")
        return next_available(self.endpoints, <uint32_t>slot, tried)

    def pick(self, key, tried):
        """Choose for `key`; `tried` has a bit set for each slot that the session already tried.

        Returns: an endpoint of `endpoints`, its slot, or None for "no upstream". One that is not available (disabled,
        unhealthy, tried) is passed over for the next available one in slot order.
        """
        raise NotImplementedError(f"{type(self).__name__} does not override pick")

    def on_update(self, endpoints):
        """A new set, before it comes into use. An exception keeps the old one. Default: nothing."""


cdef class Balancer:
    """A set of endpoints and a selection over it; `pingora.LoadBalancer` is the face that resolves names.

    `failure_rules` say when failures take an endpoint out, `peer_options` (a PeerOptions) what HttpPeer(endpoint) is.
    With `may_be_empty` there may be no endpoints until `update`, and none is available.
    Raises ValueError for an empty set, an address that occurs twice, an endpoint or a selection that another balancer
    uses, and an unknown `key`.
    """

    def __init__(self, endpoints, Selection selection not None, *, key=None, FailureRules failure_rules=None,
                 peer_options=None, bint may_be_empty=False):
        self._set_key(key)
        self.failure_rules = failure_rules
        self.peer_options = peer_options
        self.selection = selection
        self.endpoints = ()
        self._check_owner(selection.owner, "the selection")
        wanted = list(endpoints)
        if wanted or not may_be_empty:
            self._replace(wanted)
        selection.owner = weakref.ref(self)

    cdef Endpoint select_endpoint(self, const char* key, size_t key_size, uint64_t tried):
        cdef Endpoint endpoint
        if PyTuple_GET_SIZE(self.endpoints) == 0:
            return None
        endpoint = self.selection.select(key, key_size, tried)
        # `tried` aside: that a session has tried all the others is no reason to ask one that is known to fail
        if endpoint is None and next_available(self.endpoints, 0, 0) is None:
            try:
                if force(self.endpoints, True):
                    endpoint = self.selection.select(key, key_size, tried)
            finally:
                force(self.endpoints, False)
        return endpoint

    def select(self, key=None):
        """Choose an endpoint; a `str` key counts as its UTF-8 bytes.

        Inside a hook, what the session already tried is left out. Raises NoUpstream if none is available.
        """
        cdef bytes raw = key_bytes(key)
        cdef SelectionScope scope = get_value(selection_scope)
        cdef uint64_t tried = 0
        cdef Endpoint endpoint
        if scope is not None and scope.balancer is self:
            tried = scope.tried
        endpoint = self.select_endpoint(PyBytes_AS_STRING(raw), <size_t>PyBytes_GET_SIZE(raw), tried)
        if endpoint is None:
            state = "all were tried" if tried else "all are disabled or unhealthy"
            raise NoUpstream(f"none of {len(self.endpoints)} endpoints is available: {state}")
        return endpoint

    def update(self, endpoints):
        """Replace the set. An endpoint whose address stays keeps its object and live state; its weight and name may
        change.

        Raises as the constructor does, and then keeps the old set.
        """
        self._replace(list(endpoints))

    def set_enabled(self, address, bint is_enabled):
        """Switch the endpoints of this address, or of this name as configured, on or off.

        Raises LookupError if there is none.
        """
        cdef Endpoint endpoint
        for endpoint in self._find(address):
            endpoint.is_enabled = is_enabled

    def set_weight(self, address, weight):
        """Give the endpoints of this address, or of this name as configured, another weight.

        Holds in this process until the set is replaced. Raises LookupError if there is none, ValueError for a weight
        outside 1–65535 or that the selection cannot do; then nothing changes.
        """
        cdef list found = self._find(address)
        if not 1 <= weight <= WEIGHT_MAX:
            raise ValueError(f"endpoint {address}: weight {weight} is outside 1–{WEIGHT_MAX}")
        self._build([(e, weight if e in found else (<Endpoint>e).weight, (<Endpoint>e).name, (<Endpoint>e).tls,
                      (<Endpoint>e).server_name) for e in self.endpoints])

    def _find(self, address):
        """The endpoints of an address or a name, at least one."""
        cdef str text = str(address)
        cdef list found = [e for e in self.endpoints if text in ((<Endpoint>e).address.text, (<Endpoint>e).name)]
        if not found:
            known = ", ".join((<Endpoint>e).address.text for e in self.endpoints)
            raise LookupError(f"no endpoint {text!r}, there are {known}")
        return found

    def _set_key(self, key):
        self.key_name = b""
        if key in KEY_KINDS:
            self.key_kind = KEY_KINDS[key]
            return
        if not isinstance(key, str) or not key.startswith("header:") or not TOKEN.fullmatch(key[7:]):
            raise ValueError(f"key {key!r}: expected 'client_ip', 'uri', 'host', 'header:NAME' or None")
        self.key_kind = KEY_HEADER
        self.key_name = key[7:].lower().encode("ascii")

    def _check_owner(self, owner, str what):
        other = owner() if owner is not None else None
        if other is not None and other is not self:
            raise ValueError(f"{what} is in use by another balancer")

    def _replace(self, list wanted):
        """Put `wanted` in place of the set, all or nothing."""
        cdef dict kept = {(<Endpoint>e).address: e for e in self.endpoints}
        cdef list before = describe(self.endpoints)
        cdef list after = []
        cdef set seen = set()
        cdef Endpoint endpoint
        if not wanted:
            raise ValueError("a balancer needs at least one endpoint")
        for endpoint in wanted:
            if endpoint is None:
                raise TypeError("expected an Endpoint, got None")
            if endpoint.address in seen:
                raise ValueError(f"endpoint {endpoint.address.text} occurs twice")
            seen.add(endpoint.address)
            self._check_owner(endpoint.owner, f"endpoint {endpoint.address.text}")
            after.append(row(kept.get(endpoint.address, endpoint), endpoint))
        if after == before:
            return   # so that the selection goes on where it is
        self._build(after)
        for endpoint in self.endpoints:
            endpoint.owner = None
        own = weakref.ref(self)
        self.endpoints = self.selection.endpoints
        for endpoint in self.endpoints:
            endpoint.owner = own
            endpoint.rules = self.failure_rules
            if endpoint.peer_options is not self.peer_options:
                endpoint.peer_options = self.peer_options
                endpoint.default_peer = None

    def _build(self, list after):
        """Have the selection serve rows; on an exception the old ones stay."""
        cdef list before = describe(self.endpoints)
        try:
            self.selection.build(set_rows(after))
        except BaseException:
            set_rows(before)
            raise

    def __repr__(self):
        return f"<{type(self).__name__} {type(self.selection).__name__} of {len(self.endpoints)} endpoints>"


cdef Balancer owner_of(Endpoint endpoint):
    return None if endpoint.owner is None else <Balancer?>endpoint.owner()


cdef class SelectionScope:
    """What a session has tried. Made by the core; in Python only for tests."""

    cdef void mark_tried(self, Endpoint endpoint) noexcept:
        cdef Balancer balancer = None
        if endpoint is None or endpoint.slot >= 64:
            return
        try:
            balancer = owner_of(endpoint)
        except:
            pass   # ignored: to call a weak reference fails only without memory
        if not has_endpoint(balancer, endpoint):
            return
        if balancer is not self.balancer:
            self.balancer = balancer
            self.tried = 0
        self.tried |= <uint64_t>1 << endpoint.slot


def try_endpoint(SelectionScope scope not None, Endpoint endpoint not None):
    """Tell `scope` that `endpoint` failed, as the core does between attempts; the mask of slots tried so far."""
    scope.mark_tried(endpoint)
    return scope.tried
