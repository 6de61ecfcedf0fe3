"""The reactor: one edge-triggered epoll instance per worker, which waits for the asyncio loop or is nested in it, with
a timer wheel and a ready list.

Contract of the edge trigger (DESIGN §2):
- a source is registered once for IN|OUT|RDHUP|ET and never modified; epoll carries (slot, generation), never a pointer;
- a source that stops before it saw the socket drained puts itself on the ready list: the kernel will not repeat the
edge;
- every entry into the core runs between enter() and leave(); what was buried meanwhile dies at the outermost leave().
Reads happen only from events and the ready list, so that the one scratch is never read into while somebody still
points into it.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pingora_c.base.flag cimport flag
from pingora_c.lib.epoll cimport epoll_event
from pingora_c.lib.socket cimport iovec
from pingora_c.net.admission cimport Admission
from pingora_c.net.timer cimport Timer, Wheel
from pingora_c.stats.counters cimport Counters

cdef enum:
    GATHER_MAX = 64
    SMALL_SIZE = 32
    SCRATCH_SIZE = 262144     # bytes; measured: 64 KiB answers cost 0.34 of nginx with it, 0.66 with 16 KiB
    NO_SLOT = 0xFFFFFFFF

cdef struct Slot:
    void* source              # counted reference to an EventSource, NULL while free
    uint32_t generation       # goes up each time the slot is freed
    uint32_t next_free

cdef struct SourceList:
    void** items              # counted references
    size_t size
    size_t room


cdef class EventSource:
    cdef Reactor reactor
    cdef uint32_t slot        # NO_SLOT while not registered
    cdef flag is_ready_listed
    cdef flag is_late_listed
    cdef flag is_due          # an event of this turn is still to be handled
    # epoll reported `events` for our descriptor.
    cdef void on_event(self, uint32_t events) noexcept
    # our turn from the ready list
    cdef void on_ready(self) noexcept
    # the present entry into the core ends: see Reactor.make_late
    cdef void on_leave(self) noexcept
    # write out what was gathered in the turn that now ends; see Reactor.dirty
    cdef void flush(self) noexcept
    # in a forked child: close the descriptor, touch nothing else
    cdef void close_descriptor(self) noexcept


cdef class Reactor:
    cdef int epoll_fd         # owned
    cdef int timer_fd         # owned
    cdef int owner_pid        # a forked child closes the descriptors and touches nothing else
    cdef Wheel wheel
    cdef char* scratch        # owned, SCRATCH_SIZE bytes; contents are good until the end of the turn that read them
    cdef Slot* slots          # owned table
    cdef uint32_t slots_size
    cdef uint32_t free_slot   # head of the free list, NO_SLOT if empty
    cdef uint32_t n_sources
    cdef SourceList ready     # to be called at the end of the present tick or in the next
    cdef SourceList late      # to be called at the outermost leave
    cdef SourceList graveyard  # objects that lost their place while a call may still be inside them
    cdef iovec gather[64]     # borrowed spans that `dirty` writes at its flush, in order, behind what it has queued
    cdef char small[64][32]   # storage for gathered spans of up to SMALL_SIZE bytes, by index in gather
    cdef int n_gather
    cdef EventSource dirty    # the source with unflushed output, None if there is none; at most one at a time
    cdef int depth            # of enter()
    cdef readonly bint is_closed
    cdef bint leads           # waits for the loop's descriptors too, where otherwise the loop waits for epoll_fd
    cdef bint is_loop_due     # one of them had an event
    cdef uint64_t armed_ms    # what timer_fd is set to, 0: disarmed
    cdef uint64_t now_ms      # time at the start of this entry
    # The clock when it was looked at last: at the start of this entry, behind a hook, or LOOK_EVERY events ago. To read
    # it costs 45 ns in a virtual machine, a tenth of what a request costs here, so moments are this and not now_us().
    cdef uint64_t now_us
    cdef bint is_behind_hook  # now_us is of a hook's end, and nothing but its own session ran since
    cdef uint64_t ticks
    cdef readonly Counters counters
    cdef readonly Admission admission
    cdef uint64_t* counted    # the cells of `counters`: counted[REQUESTS] += 1
    cdef object loop          # asyncio loop, None when polled by hand
    cdef object tick_handle   # outstanding call_soon(tick), None if there is none
    cdef object tick_callback  # bound self.tick
    cdef object context       # contextvars.Context that ticks run in and sessions copy theirs from
    cdef object __weakref__

    cdef void enter(self) noexcept
    cdef void leave(self) noexcept
    cdef uint64_t look(self) noexcept      # at the clock; gives now_us
    # Register `fd` for `source` and these epoll events; the table holds a reference until remove() or forget(). -1 with
    # errno set on failure.
    cdef int add(self, EventSource source, int fd, uint32_t events) noexcept
    # Replace the events of a registered one; what is the case already is reported again. -1 without memory.
    cdef int watch(self, EventSource source, int fd, uint32_t events) noexcept
    # Deregister; the descriptor stays open.
    cdef void remove(self, EventSource source, int fd) noexcept
    # The same for a descriptor that is closed next, which ends its registration.
    cdef void forget(self, EventSource source) noexcept
    # Events of `source` are of `successor` from now on.
    cdef void replace(self, EventSource source, EventSource successor) noexcept
    cdef list sources(self)      # all that are registered
    cdef void make_ready(self, EventSource source) noexcept
    # Call on_leave() of `source` at the outermost leave(): what many turns of one entry have for it leaves together.
    cdef void make_late(self, EventSource source) noexcept
    # Keep `thing` alive until the outermost leave().
    cdef void bury(self, object thing) noexcept
    cdef void set_timer(self, Timer* timer, uint64_t delay_ms) noexcept
    # Make `source` the dirty one, flushing another first.
    cdef void mark_dirty(self, EventSource source) noexcept
    cdef void turn(self, int timeout_ms) noexcept
    # private to reactor.pyx
    cdef void link_free_slots(self, uint32_t first) noexcept
    cdef int grow_slots(self) noexcept
    cdef void close_descriptors(self) noexcept
    cdef void schedule_tick(self) noexcept
    cdef void flush_dirty(self) noexcept
    cdef void arm(self) noexcept
    cdef void begin_event(self, size_t number) noexcept
    cdef void run_ready(self) noexcept
    cdef void run_late(self) noexcept
    cdef bint has_source(self, const epoll_event* event) noexcept
    cdef void announce(self, const epoll_event* events, int n) noexcept
    cdef void dispatch(self, epoll_event* event) noexcept
    cdef void drop_sources(self) noexcept
    cdef void close_in_child(self) noexcept
