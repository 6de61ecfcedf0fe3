"""A timer wheel and timers as a Python object, for tests. No part of the proxy uses it."""
cimport cython

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from pingora_c.net.timer cimport (
    Timer, Wheel, timer_clear, timer_init, timer_set, timer_unlink, wheel_advance, wheel_end, wheel_init, wheel_next_ms,
)

cdef struct Alarm:
    Timer timer
    uint32_t n_fired     # since the last advance
    Wheel* wheel
    Timer* other         # what happens to this one when it fires; NULL: nothing
    uint64_t delay_ms    # 0: it is unlinked, else armed for so much later than now


cdef void on_fire(void* owner) noexcept:
    cdef Alarm* alarm = <Alarm*>owner
    alarm.n_fired += 1
    if alarm.other == NULL:
        return
    if alarm.delay_ms:
        timer_set(alarm.wheel, alarm.other, alarm.wheel.now_ms + alarm.delay_ms)
    else:
        timer_unlink(alarm.other)


@cython.final
cdef class WheelProbe:
    """A wheel that begins at `now_ms`, and `count` timers by their numbers."""
    cdef Wheel wheel
    cdef Alarm* alarms
    cdef readonly size_t count

    def __cinit__(self, size_t count, uint64_t now_ms):
        cdef size_t i
        wheel_init(&self.wheel, now_ms)
        self.alarms = <Alarm*>calloc(count, sizeof(Alarm))
        if self.alarms == NULL:
            raise MemoryError
        self.count = count
        for i in range(count):
            timer_init(&self.alarms[i].timer, on_fire, &self.alarms[i])
            self.alarms[i].wheel = &self.wheel

    def __dealloc__(self):
        wheel_end(&self.wheel)
        free(self.alarms)

    cdef Alarm* alarm(self, size_t number) except NULL:
        if number >= self.count:
            raise IndexError(number)
        return &self.alarms[number]

    def set(self, size_t number, uint64_t deadline_ms):
        """Arm a timer."""
        timer_set(&self.wheel, &self.alarm(number).timer, deadline_ms)

    def clear(self, size_t number):
        """Clear its deadline; it stays in its slot."""
        timer_clear(&self.alarm(number).timer)

    def unlink(self, size_t number):
        """Take it out of the wheel."""
        timer_unlink(&self.alarm(number).timer)

    def chain(self, size_t number, size_t other, uint64_t delay_ms):
        """When one fires, arm another for `delay_ms` later, or unlink it if that is 0."""
        self.alarm(number).other = &self.alarm(other).timer
        self.alarm(number).delay_ms = delay_ms

    def advance(self, uint64_t now_ms):
        """Fire what is due; return how often each timer fired."""
        cdef size_t i
        for i in range(self.count):
            self.alarms[i].n_fired = 0
        wheel_advance(&self.wheel, now_ms)
        return [self.alarms[i].n_fired for i in range(self.count)]

    def end(self):
        """Take every timer out."""
        wheel_end(&self.wheel)

    def deadlines(self):
        """Return what each is armed for, 0 if it is not."""
        cdef size_t i
        return [self.alarms[i].timer.deadline_ms for i in range(self.count)]

    @property
    def next_ms(self):
        """When advance should run next; 0: never."""
        return wheel_next_ms(&self.wheel)
