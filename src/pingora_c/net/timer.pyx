"""The timer wheel. Owns nothing: timers live in their owners, the wheel in the reactor."""
from pingora_c.lib.bits cimport __builtin_ctzll


cdef void wheel_init(Wheel* wheel, uint64_t now_ms) noexcept nogil:
    cdef int i
    for i in range(WHEEL_SLOTS):
        wheel.slots[i].previous = wheel.slots[i].next = &wheel.slots[i]
    for i in range(WHEEL_SLOTS // 64):
        wheel.used[i] = 0
    wheel.tick = now_ms >> TICK_SHIFT
    wheel.now_ms = now_ms


cdef void timer_init(Timer* timer, timer_fn fire, void* owner) noexcept nogil:
    timer.previous = timer.next = NULL
    timer.deadline_ms = 0
    timer.due_tick = 0
    timer.fire = fire
    timer.owner = owner


cdef void link(Wheel* wheel, Timer* timer) noexcept nogil:
    cdef uint64_t due = (timer.deadline_ms + TICK_MS - 1) >> TICK_SHIFT
    cdef uint64_t slot
    cdef Timer* head
    if due <= wheel.tick:
        due = wheel.tick + 1
    slot = due & (WHEEL_SLOTS - 1)
    head = &wheel.slots[slot]
    timer.due_tick = due
    timer.next = head
    timer.previous = head.previous
    head.previous.next = timer
    head.previous = timer
    wheel.used[slot >> 6] |= <uint64_t>1 << (slot & 63)


cdef void timer_unlink(Timer* timer) noexcept nogil:
    if timer.next != NULL:
        timer.previous.next = timer.next
        timer.next.previous = timer.previous
        timer.previous = timer.next = NULL
    timer.deadline_ms = 0


cdef void wheel_end(Wheel* wheel) noexcept nogil:
    cdef int i
    for i in range(WHEEL_SLOTS):
        while wheel.slots[i].next != &wheel.slots[i]:
            timer_unlink(wheel.slots[i].next)


cdef void timer_set(Wheel* wheel, Timer* timer, uint64_t deadline_ms) noexcept nogil:
    timer.deadline_ms = deadline_ms
    if timer.next != NULL:
        if deadline_ms > (timer.due_tick - 1) << TICK_SHIFT:
            return
        timer_unlink(timer)
        timer.deadline_ms = deadline_ms
    link(wheel, timer)


cdef void visit_slot(Wheel* wheel, uint64_t slot) noexcept:
    """Fire, move or drop each timer of a slot. Callbacks may arm and unlink any timer: the list is taken over first."""
    cdef Timer* head = &wheel.slots[slot]
    cdef Timer pending
    cdef Timer* timer
    wheel.used[slot >> 6] &= ~(<uint64_t>1 << (slot & 63))
    if head.next == head:
        return
    pending.next = head.next
    pending.previous = head.previous
    pending.next.previous = pending.previous.next = &pending
    head.next = head.previous = head
    while pending.next != &pending:
        timer = pending.next
        timer.previous.next = timer.next
        timer.next.previous = timer.previous
        timer.previous = timer.next = NULL
        if timer.deadline_ms == 0:
            continue
        if timer.deadline_ms > wheel.now_ms:
            link(wheel, timer)
            continue
        timer.deadline_ms = 0
        timer.fire(timer.owner)


cdef void wheel_advance(Wheel* wheel, uint64_t now_ms) noexcept:
    cdef uint64_t target = now_ms >> TICK_SHIFT
    cdef uint64_t steps
    wheel.now_ms = now_ms
    if target <= wheel.tick:
        return
    steps = target - wheel.tick
    if steps > WHEEL_SLOTS:
        steps = WHEEL_SLOTS
        wheel.tick = target - steps
    while steps > 0:
        steps -= 1
        wheel.tick += 1
        if (wheel.used[(wheel.tick & (WHEEL_SLOTS - 1)) >> 6] >> (wheel.tick & 63)) & 1:
            visit_slot(wheel, wheel.tick & (WHEEL_SLOTS - 1))


cdef uint64_t wheel_next_ms(Wheel* wheel) noexcept nogil:
    cdef uint64_t first = wheel.tick + 1
    cdef uint64_t slot = first & (WHEEL_SLOTS - 1)
    cdef uint64_t word = slot >> 6
    cdef uint64_t bits = wheel.used[word] & ~((<uint64_t>1 << (slot & 63)) - 1)
    cdef int _word
    for _word in range(WHEEL_SLOTS // 64 + 1):
        if bits:
            slot = (word << 6) + __builtin_ctzll(bits)
            return (first + ((slot + WHEEL_SLOTS - (first & (WHEEL_SLOTS - 1))) & (WHEEL_SLOTS - 1))) << TICK_SHIFT
        word = (word + 1) & (WHEEL_SLOTS // 64 - 1)
        bits = wheel.used[word]
    return 0
