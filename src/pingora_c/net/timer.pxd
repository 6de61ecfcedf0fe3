"""A coarse timer wheel: deadlines that cost one store unless they fire.

A Timer is embedded in the object it belongs to and is in at most one slot of the wheel. Moving its deadline later, or
clearing it, only writes
`deadline_ms`; when its slot comes up the wheel looks at the real deadline and fires, re-inserts or drops it.
Resolution is TICK_MS, rounded up.
"""
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    TICK_SHIFT = 4
    TICK_MS = 16          # 1 << TICK_SHIFT
    WHEEL_SLOTS = 1024    # one turn of the wheel: 16.4 s; longer deadlines stay in their slot for several turns

# Called with the timer's owner once its deadline has passed; the timer is unlinked and cleared before.
ctypedef void (*timer_fn)(void* owner) noexcept

cdef struct Timer:
    Timer* previous       # neighbours in its slot; NULL while not linked
    Timer* next
    uint64_t deadline_ms  # 0: cleared
    uint64_t due_tick     # tick at which its slot is looked at; valid while linked
    timer_fn fire
    void* owner           # borrowed: the owner unlinks the timer before it dies

cdef struct Wheel:
    Timer slots[1024]     # list heads
    uint64_t used[16]     # bit per slot: may hold timers
    uint64_t tick         # last tick that was looked at
    uint64_t now_ms       # time of the last advance

cdef void wheel_init(Wheel* wheel, uint64_t now_ms) noexcept nogil

# Take every timer out: owners may outlive the wheel, as the collector frees what refers to each other in any order.
cdef void wheel_end(Wheel* wheel) noexcept nogil

cdef void timer_init(Timer* timer, timer_fn fire, void* owner) noexcept nogil

# Arm for `deadline_ms` (on the wheel's clock), whatever it was armed for before.
cdef void timer_set(Wheel* wheel, Timer* timer, uint64_t deadline_ms) noexcept nogil

cdef inline void timer_clear(Timer* timer) noexcept nogil:
    timer.deadline_ms = 0

# Take it out of the wheel; owners call it before they die. May be called twice.
cdef void timer_unlink(Timer* timer) noexcept nogil

# Fire what is due.
cdef void wheel_advance(Wheel* wheel, uint64_t now_ms) noexcept

# Time at which advance should run next; 0 if no timer is linked.
cdef uint64_t wheel_next_ms(Wheel* wheel) noexcept nogil
