"""The event core of a worker. Owns epoll, timerfd, scratch and the table of sources; knows no protocol and runs no
hook.
"""
cimport cython

import contextvars

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject, Py_XDECREF
from libc.stdint cimport UINT64_MAX
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset
from pingora_c.base.clock cimport now_us as clock_us
from pingora_c.lib.epoll cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, TFD_CLOEXEC, TFD_NONBLOCK,
    TFD_TIMER_ABSTIME, epoll_create1, epoll_ctl, epoll_event, epoll_wait, itimerspec, timerfd_create, timerfd_settime,
)
from pingora_c.lib.time cimport CLOCK_MONOTONIC
from pingora_c.lib.unistd cimport close, getpid, read
from pingora_c.net.timer cimport timer_set, wheel_advance, wheel_end, wheel_init, wheel_next_ms

import os
import weakref

cdef enum:
    EVENTS_PER_WAIT = 256
    TIMER_KEY = 0xFFFFFFFE      # slot number that stands for timer_fd
    LOOP_KEY = 0xFFFFFFFD       # for the loop's descriptors
    WAIT_MOST_MS = 3600000
    FIRST_SLOTS = 64
    LOOK_EVERY = 8              # events between two looks at the clock

cdef object live_reactors = weakref.WeakSet()


cdef int push(SourceList* items, object thing) noexcept:
    """Append a counted reference; -1 if there is no memory."""
    cdef void** grown
    cdef size_t room
    if items.size == items.room:
        room = items.room * 2 if items.room else 64
        grown = <void**>realloc(items.items, room * sizeof(void*))
        if grown == NULL:
            return -1
        items.items = grown
        items.room = room
    Py_INCREF(thing)
    items.items[items.size] = <void*>thing
    items.size += 1
    return 0


cdef void drop_all(SourceList* items) noexcept:
    """Release every reference. Deallocations may push again: the list is taken over first, until it stays empty."""
    cdef void** taken
    cdef size_t size, i
    while items.size:
        taken = items.items
        size = items.size
        items.items = NULL
        items.size = items.room = 0
        for i in range(size):
            Py_DECREF(<object>taken[i])
        free(taken)


cdef class EventSource:
    def __cinit__(self):
        self.slot = NO_SLOT

    cdef void on_event(self, uint32_t events) noexcept:
        pass

    cdef void on_ready(self) noexcept:
        pass

    cdef void on_leave(self) noexcept:
        pass

    cdef void flush(self) noexcept:
        pass

    cdef void close_descriptor(self) noexcept:
        pass


@cython.final
cdef class Reactor:
    """An epoll instance beside that of an asyncio loop.

    With `loop_fd`, the descriptor of the loop's selector, that selector waits by `wait()`. `Reactor(loop)` is nested:
    it registers itself with `loop.add_reader`. `Reactor()` is driven by `poll(timeout)`. Only one thread may use it.
    What goes on is counted in `counters`, by default new ones.
    """

    def __cinit__(self, loop=None, Counters counters=None, int loop_fd=-1):
        cdef epoll_event event
        self.now_ms = self.look() // 1000
        wheel_init(&self.wheel, self.now_ms)
        self.counters = Counters() if counters is None else counters
        self.counted = self.counters.cells
        self.admission = Admission()
        self.epoll_fd = self.timer_fd = -1
        self.scratch = <char*>malloc(SCRATCH_SIZE)
        self.slots = <Slot*>calloc(FIRST_SLOTS, sizeof(Slot))
        if self.scratch == NULL or self.slots == NULL:
            raise MemoryError
        self.slots_size = FIRST_SLOTS
        self.link_free_slots(0)
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        self.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.epoll_fd < 0 or self.timer_fd < 0:
            raise OSError("cannot create epoll or timerfd: out of descriptors")
        self.owner_pid = getpid()
        event.events = EPOLLIN
        event.data.u64 = TIMER_KEY
        epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, self.timer_fd, &event)
        self.leads = loop_fd >= 0
        event.data.u64 = LOOP_KEY
        if self.leads and epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, loop_fd, &event) < 0:
            raise OSError("cannot wait for the loop's descriptors")
        self.loop = loop
        self.tick_callback = self.tick
        self.context = contextvars.copy_context()
        if loop is not None and not self.leads:
            loop.add_reader(self.epoll_fd, self.tick_callback)
        live_reactors.add(self)

    def __dealloc__(self):
        self.close_descriptors()
        wheel_end(&self.wheel)
        drop_all(&self.graveyard)
        drop_all(&self.ready)
        drop_all(&self.late)
        free(self.scratch)
        free(self.slots)

    cdef void link_free_slots(self, uint32_t first) noexcept:
        cdef uint32_t i
        for i in range(first, self.slots_size):
            self.slots[i].next_free = i + 1 if i + 1 < self.slots_size else NO_SLOT
        self.free_slot = first

    cdef int grow_slots(self) noexcept:
        cdef uint32_t old = self.slots_size
        cdef Slot* grown = <Slot*>realloc(self.slots, 2 * <size_t>old * sizeof(Slot))
        if grown == NULL:
            return -1
        memset(grown + old, 0, <size_t>old * sizeof(Slot))
        self.slots = grown
        self.slots_size = 2 * old
        self.link_free_slots(old)
        return 0

    cdef void close_descriptors(self) noexcept:
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
            self.epoll_fd = -1
        if self.timer_fd >= 0:
            close(self.timer_fd)
            self.timer_fd = -1

    cdef void enter(self) noexcept:
        if self.depth == 0:
            self.now_ms = self.look() // 1000
        self.depth += 1

    cdef void leave(self) noexcept:
        if self.depth == 1:
            if self.dirty is not None:
                self.flush_dirty()
            if self.late.size:
                self.run_late()
            self.arm()
            if (self.ready.size or self.late.size) and not self.leads:
                self.schedule_tick()
            if self.graveyard.size:
                drop_all(&self.graveyard)
            self.is_behind_hook = False
        self.depth -= 1

    cdef uint64_t look(self) noexcept:
        self.now_us = clock_us()
        return self.now_us

    cdef void schedule_tick(self) noexcept:
        if self.tick_handle is not None or self.loop is None:
            return
        try:
            self.tick_handle = self.loop.call_soon(self.tick_callback, context=self.context)
        except:
            self.tick_handle = None   # ignored: the loop is closed, nothing will run any more

    cdef void flush_dirty(self) noexcept:
        cdef EventSource source = self.dirty
        self.dirty = None
        source.flush()

    cdef void mark_dirty(self, EventSource source) noexcept:
        if self.dirty is not source:
            if self.dirty is not None:
                self.flush_dirty()
            self.dirty = source

    cdef void arm(self) noexcept:
        """Set timer_fd to the wheel's next slot, unless it is armed for that or an earlier time."""
        cdef uint64_t next_ms = wheel_next_ms(&self.wheel)
        cdef itimerspec value
        if next_ms == 0 or (self.armed_ms and self.armed_ms <= next_ms):
            return
        memset(&value, 0, sizeof(value))
        value.it_value.tv_sec = next_ms // 1000
        value.it_value.tv_nsec = (next_ms % 1000) * 1000000
        timerfd_settime(self.timer_fd, TFD_TIMER_ABSTIME, &value, NULL)
        self.armed_ms = next_ms

    cdef void set_timer(self, Timer* timer, uint64_t delay_ms) noexcept:
        timer_set(&self.wheel, timer, self.now_ms + delay_ms)

    cdef int add(self, EventSource source, int fd, uint32_t events) noexcept:
        cdef epoll_event event
        cdef uint32_t slot
        if self.free_slot == NO_SLOT and self.grow_slots() < 0:
            return -1
        slot = self.free_slot
        event.events = events
        event.data.u64 = <uint64_t>slot | (<uint64_t>self.slots[slot].generation << 32)
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            return -1
        self.free_slot = self.slots[slot].next_free
        Py_INCREF(source)
        self.slots[slot].source = <void*>source
        source.slot = slot
        source.reactor = self
        self.n_sources += 1
        return 0

    cdef int watch(self, EventSource source, int fd, uint32_t events) noexcept:
        cdef epoll_event event
        event.events = events
        event.data.u64 = <uint64_t>source.slot | (<uint64_t>self.slots[source.slot].generation << 32)
        return epoll_ctl(self.epoll_fd, EPOLL_CTL_MOD, fd, &event)

    cdef void remove(self, EventSource source, int fd) noexcept:
        cdef epoll_event event
        if source.slot == NO_SLOT:
            return
        event.events = 0
        epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, fd, &event)
        self.forget(source)

    cdef void forget(self, EventSource source) noexcept:
        cdef uint32_t slot = source.slot
        if slot == NO_SLOT:
            return
        source.slot = NO_SLOT
        self.slots[slot].source = NULL
        self.slots[slot].generation += 1
        self.slots[slot].next_free = self.free_slot
        self.free_slot = slot
        self.n_sources -= 1
        self.bury(source)
        Py_DECREF(source)

    cdef void replace(self, EventSource source, EventSource successor) noexcept:
        successor.slot = source.slot
        source.slot = NO_SLOT
        Py_INCREF(successor)
        self.slots[successor.slot].source = <void*>successor
        self.bury(source)
        Py_DECREF(source)

    cdef list sources(self):
        cdef uint32_t i
        return [<EventSource>self.slots[i].source for i in range(self.slots_size) if self.slots[i].source != NULL]

    cdef void make_ready(self, EventSource source) noexcept:
        if source.is_ready_listed:
            return
        # if there is no memory the source stalls until its next event or its timer, which closes it
        source.is_ready_listed = push(&self.ready, source) == 0

    cdef void make_late(self, EventSource source) noexcept:
        if not source.is_late_listed:
            source.is_late_listed = push(&self.late, source) == 0
            if not source.is_late_listed:
                self.make_ready(source)    # without memory neither may work: the source's timer closes it

    cdef void bury(self, object thing) noexcept:
        if push(&self.graveyard, thing) < 0:
            Py_INCREF(thing)   # leaked rather than freed under a running call

    cdef void run_ready(self) noexcept:
        """Call what was on the ready list when this began; what is added meanwhile waits for the next tick."""
        cdef SourceList batch = self.ready
        cdef EventSource source
        cdef size_t i
        memset(&self.ready, 0, sizeof(SourceList))
        for i in range(batch.size):
            source = <EventSource>batch.items[i]
            source.is_ready_listed = False
            self.begin_event(i)
            source.on_ready()
            if self.dirty is not None:
                self.flush_dirty()
        drop_all(&batch)

    cdef void run_late(self) noexcept:
        """Call what was listed when this began; what is added meanwhile has its turn with the next tick."""
        cdef SourceList batch = self.late
        cdef EventSource source
        cdef size_t i
        memset(&self.late, 0, sizeof(SourceList))
        for i in range(batch.size):
            source = <EventSource>batch.items[i]
            source.is_late_listed = False
            source.on_leave()
            if self.dirty is not None:
                self.flush_dirty()
        drop_all(&batch)

    cdef void begin_event(self, size_t number) noexcept:
        self.is_behind_hook = False
        if number % LOOK_EVERY == LOOK_EVERY - 1:
            self.look()

    cdef bint has_source(self, const epoll_event* event) noexcept:
        """Whether an event is of a source that is still there."""
        cdef uint32_t slot = <uint32_t>event.data.u64
        return (slot < self.slots_size and self.slots[slot].source != NULL
                and self.slots[slot].generation == <uint32_t>(event.data.u64 >> 32))

    cdef void dispatch(self, epoll_event* event) noexcept:
        cdef uint32_t slot = <uint32_t>event.data.u64
        cdef EventSource source
        cdef uint64_t expirations
        cdef Py_ssize_t got
        if slot == TIMER_KEY:
            got = read(self.timer_fd, &expirations, sizeof(expirations))
            if got > 0:
                self.armed_ms = 0
            return
        if slot == LOOP_KEY:
            self.is_loop_due = True
            return
        if not self.has_source(event):
            return   # closed by an earlier event of this batch
        source = <EventSource>self.slots[slot].source
        source.is_due = False
        source.on_event(event.events)
        if self.dirty is not None:
            self.flush_dirty()

    cdef void announce(self, const epoll_event* events, int n) noexcept:
        """An idle connection that has an event is none to reuse, though others have their turn before it."""
        cdef int i
        for i in range(n):
            if self.has_source(&events[i]):
                (<EventSource>self.slots[<uint32_t>events[i].data.u64].source).is_due = True

    cdef void turn(self, int timeout_ms) noexcept:
        cdef epoll_event events[EVENTS_PER_WAIT]
        cdef int n, i
        with nogil:
            n = epoll_wait(self.epoll_fd, events, EVENTS_PER_WAIT, timeout_ms)
        self.enter()
        if n > 1:
            self.announce(events, n)
        for i in range(n):
            self.begin_event(i)
            self.dispatch(&events[i])
        wheel_advance(&self.wheel, self.now_ms)
        if self.dirty is not None:
            self.flush_dirty()
        if self.ready.size:
            self.run_ready()
        self.ticks += 1
        self.leave()

    def tick(self) -> None:
        """Handle one batch of events without waiting."""
        self.tick_handle = None
        if not self.is_closed and self.epoll_fd >= 0:
            self.turn(0)

    def wait(self, ready, scheduled, timeout) -> bool:
        """Handle events for `timeout` seconds, None: without end, or until the loop has something to do.

        That is a callback in `ready`, one more timer in `scheduled`, or an event of its own descriptors: True then.
        """
        cdef Py_ssize_t n_scheduled = len(scheduled)
        cdef uint64_t end_us = UINT64_MAX if timeout is None else self.look() + <uint64_t>(timeout * 1e6)
        cdef uint64_t left_ms
        self.is_loop_due = False
        while True:
            left_ms = 0
            if not self.ready.size and not self.late.size and end_us > self.now_us:
                left_ms = (end_us - self.now_us + 999) // 1000
            self.turn(<int>min(left_ms, WAIT_MOST_MS))
            PyErr_CheckSignals()
            if self.is_loop_due or self.is_closed:
                return True
            if len(ready) or len(scheduled) != n_scheduled or self.now_us >= end_us:
                return False

    def poll(self, double timeout) -> None:
        """Wait up to `timeout` seconds for events and handle one batch."""
        if not self.is_closed:
            self.turn(0 if self.ready.size else <int>(timeout * 1000))

    def close(self) -> None:
        """Leave the loop and close the descriptors. Sources must have been closed before. May be called twice."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.loop is not None:
            if not self.leads:
                self.loop.remove_reader(self.epoll_fd)
            if self.tick_handle is not None:
                self.tick_handle.cancel()
        self.close_descriptors()
        self.tick_handle = self.tick_callback = self.loop = None
        self.drop_sources()

    cdef void drop_sources(self) noexcept:
        cdef uint32_t i
        for i in range(self.slots_size):
            if self.slots[i].source != NULL:
                (<EventSource>self.slots[i].source).slot = NO_SLOT
                Py_XDECREF(<PyObject*>self.slots[i].source)
                self.slots[i].source = NULL
        drop_all(&self.ready)
        drop_all(&self.late)

    cdef void close_in_child(self) noexcept:
        """In a forked child of a hook: close every descriptor of ours, so that the child holds no client's
        connection open.
        """
        cdef uint32_t i
        for i in range(self.slots_size):
            if self.slots[i].source != NULL:
                (<EventSource>self.slots[i].source).close_descriptor()
        self.close_descriptors()
        self.is_closed = True

    @property
    def n_open(self) -> int:
        """Number of registered sources: listeners and connections."""
        return self.n_sources

    @property
    def n_ticks(self) -> int:
        return self.ticks


def _close_in_child() -> None:
    cdef Reactor reactor
    for reactor in list(live_reactors):
        reactor.close_in_child()


os.register_at_fork(after_in_child=_close_in_child)
