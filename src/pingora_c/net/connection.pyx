"""Buffered, edge-triggered connection over a transport. Knows neither protocol nor session."""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove
from pingora_c.lib.epoll cimport EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from pingora_c.lib.socket cimport iovec
from pingora_c.mem.buffer_pool cimport BUFFER_LARGE, BUFFER_SMALL, pool_give, pool_release, pool_reserve, try_pool_take
from pingora_c.mem.byte_queue cimport (
    QueueSegment, queue_append, queue_drop, queue_free, queue_push_kept, segment_free, segment_new,
)
from pingora_c.net.reactor cimport GATHER_MAX
from pingora_c.net.timer cimport timer_init, timer_unlink
from pingora_c.net.transport cimport IO_EOF, IO_ERROR, IO_WOULD_BLOCK

cdef enum:
    SEGMENTS_PER_WRITE = 16
    NO_ROOM = -2

cdef uint32_t EDGES_READING = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET
cdef uint32_t EDGES_BOTH = EDGES_READING | EPOLLOUT


cdef void fire_timeout(void* owner) noexcept:
    cdef Connection connection = <Connection>owner
    connection.on_timeout()


cdef class Connection(EventSource):
    def __cinit__(self):
        self.read_limit = READ_SMALL
        timer_init(&self.timer, fire_timeout, <void*>self)

    def __dealloc__(self):
        timer_unlink(&self.timer)
        self.free_pending()
        queue_free(&self.out)

    cdef int open(self, Reactor reactor, Transport transport) noexcept:
        cdef uint32_t events
        self.transport = transport
        self.reactor = reactor
        self.watches_writing = self.is_blocked or transport.needs_handshake     # which writes as well
        events = EDGES_BOTH if self.watches_writing else EDGES_READING
        return reactor.add(self, transport.fd, events)

    cdef void open_transport(self) noexcept:
        if self.transport.needs_handshake:
            self.is_opening = True
            self.open_turn()
        else:
            self.on_open()

    cdef void open_turn(self) noexcept:
        """Go on with the handshake. What follows it may lie in the transport already: read at once."""
        cdef int code = self.transport.handshake()
        if code == IO_WOULD_BLOCK and self.saw_hangup:
            code = self.transport.handshake()     # the end came with the bytes, and no further edge will tell of it
        self.reactor.look()                       # signing took a while
        if code == IO_WOULD_BLOCK:
            return
        self.is_opening = False
        if code < 0:
            self.on_open_failed(code)
            return
        self.can_read = True
        self.on_open()
        if not self.is_closed and not self.is_paused:
            self.read_turn()

    # -- events

    cdef void on_event(self, uint32_t events) noexcept:
        if events & EPOLLOUT and self.is_blocked:
            self.is_blocked = False
            self.flush()
            if not self.is_blocked and not self.is_broken and not self.is_closed:
                self.on_writable()
            if self.is_closed:
                return
            events &= ~<uint32_t>EPOLLOUT      # what else came is the handshake's, if on_writable began one
        if self.is_opening:
            self.saw_hangup |= events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) != 0
            if events:
                self.open_turn()
            return
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            self.can_read = True
            if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                self.saw_hangup = True
                self.saw_reset |= events & EPOLLERR != 0
                if self.is_paused:
                    # after our own FIN, the peer's gives HUP as well
                    self.on_hangup(events & EPOLLERR != 0 or (events & EPOLLHUP != 0 and not self.has_shut))
                    return
                if self.saw_eof:
                    if self.saw_reset:
                        self.on_hangup(True)
                    return
            if not self.is_paused:
                self.read_turn()

    cdef void on_ready(self) noexcept:
        if self.is_closed:
            return
        if self.is_opening:
            self.open_turn()
        elif self.is_broken:
            self.on_broken()
        elif not self.is_paused:
            self.read_turn()

    cdef void close_descriptor(self) noexcept:
        self.transport.close()

    # -- reading

    cdef void read_turn(self) noexcept:
        """Read until the socket is drained, the receiver pauses or the budget of a turn is used."""
        cdef size_t room, used, total = 0
        cdef int reads = 0, code
        cdef Py_ssize_t got
        cdef char* place
        self.in_turn = True
        if self.pending_size:
            self.consume_pending()
        while self.can_read and not self.is_paused and not self.is_closed and not self.saw_eof:
            if reads == READS_PER_TURN or total >= BYTES_PER_TURN:
                self.reactor.make_ready(self)
                break
            self.flush_before_reuse()
            if self.pending_size:
                code = self.make_room()
                if code == NO_ROOM:
                    self.end_reading(IO_ERROR)
                elif code < 0:
                    self.lose_bytes()
                if code < 0:
                    break
                place = self.pending + self.pending_at + self.pending_size
                room = self.pending_cap - self.pending_at - self.pending_size
            else:
                place = self.reactor.scratch
                room = self.read_limit
            if self.asks_room:
                room = min(room, self.room())
                if room == 0:
                    break
            got = self.read_transport(place, room)
            if got > 0:
                reads += 1
                total += got
                self.bytes_read += got
                if <size_t>got < room and not self.saw_hangup and not self.transport.has_pending():
                    self.can_read = False
                if self.pending_size:
                    self.pending_size += <uint32_t>got
                    self.consume_pending()
                    continue
                used = self.on_bytes(place, got)
                if used < <size_t>got and not self.is_closed and self.keep(place + used, got - used) < 0:
                    self.lose_bytes()
            elif got == IO_WOULD_BLOCK:
                self.can_read = False
            else:
                self.end_reading(<int>got)
        self.in_turn = False

    cdef void end_reading(self, int code) noexcept:
        self.can_read = False
        self.saw_eof = True
        self.on_end(code)
        if code == IO_EOF and self.saw_reset and not self.is_closed:
            self.on_hangup(True)     # it came before the end was read, and no further edge will tell of it

    cdef void lose_bytes(self) noexcept:
        self.can_read = False
        self.saw_eof = self.lacks_memory = True
        self.on_broken()

    cdef Py_ssize_t read_transport(self, char* place, size_t room) noexcept:
        cdef Py_ssize_t got = self.transport.read(place, room)
        if got == IO_WOULD_BLOCK and self.saw_hangup:
            got = self.transport.read(place, room)     # the end came with bytes that give nothing: no edge tells of it
        return got

    cdef void flush_before_reuse(self) noexcept:
        """What was gathered may point into the scratch or into pending: it leaves before they change."""
        if self.reactor.n_gather:
            self.reactor.flush_dirty()

    cdef void consume_pending(self) noexcept:
        cdef size_t used = self.on_bytes(self.pending + self.pending_at, self.pending_size)
        if self.is_closed:
            return
        self.pending_at += <uint32_t>used
        self.pending_size -= <uint32_t>used
        if self.pending_size == 0:
            self.free_pending()

    cdef int keep(self, const char* data, size_t size) noexcept:
        """Copy what the receiver left over. `pending` is empty."""
        cdef uint32_t cap
        cdef char* place
        if size <= BUFFER_LARGE:
            place = try_pool_take(size, &cap)
        elif not pool_reserve(size):
            place = NULL
        else:
            place = <char*>malloc(size)
            if place == NULL:
                pool_release(size)
            cap = <uint32_t>size
        if place == NULL:
            return -1
        memcpy(place, data, size)
        self.pending = place
        self.pending_at = 0
        self.pending_size = <uint32_t>size
        self.pending_cap = cap
        return 0

    cdef int make_room(self) noexcept:
        """Make free space behind pending: 0, NO_ROOM if it is full at the largest class, -1 without memory."""
        cdef uint32_t cap
        cdef char* place
        if self.pending_at:
            memmove(self.pending, self.pending + self.pending_at, self.pending_size)
            self.pending_at = 0
        if self.pending_size < self.pending_cap:
            return 0
        if self.pending_cap >= BUFFER_LARGE:
            return NO_ROOM
        place = try_pool_take(self.pending_cap + 1, &cap)
        if place == NULL:
            return -1
        memcpy(place, self.pending, self.pending_size)
        pool_give(self.pending, self.pending_cap)
        self.pending = place
        self.pending_cap = cap
        return 0

    cdef void free_pending(self) noexcept:
        if self.pending == NULL:
            return
        if self.reactor is not None:
            self.flush_before_reuse()
        if self.pending_cap <= BUFFER_LARGE:
            pool_give(self.pending, self.pending_cap)
        else:
            pool_release(self.pending_cap)
            free(self.pending)
        self.pending = NULL
        self.pending_at = self.pending_size = self.pending_cap = 0

    cdef void pause(self) noexcept:
        self.is_paused = True

    cdef void resume(self) noexcept:
        if not self.is_paused:
            return
        self.is_paused = False
        if not self.in_turn and (self.can_read or self.pending_size):
            self.reactor.make_ready(self)

    cdef bint look_ahead(self) noexcept:
        cdef char* place = self.reactor.scratch
        cdef size_t room = BUFFER_SMALL
        cdef Py_ssize_t got
        if not self.is_paused or not self.can_read or self.saw_eof or self.is_closed:
            return False
        self.flush_before_reuse()
        if self.pending_size:
            if self.make_room() < 0:
                return False
            place = self.pending + self.pending_at + self.pending_size
            room = self.pending_cap - self.pending_at - self.pending_size
        got = self.read_transport(place, room)
        if got > 0:
            self.bytes_read += got
            if self.pending_size:
                self.pending_size += <uint32_t>got
                return True
            if self.keep(place, got) == 0:
                return True
            self.lose_bytes()
        elif got == IO_WOULD_BLOCK:
            self.can_read = False
        else:
            self.end_reading(<int>got)
        return False

    # -- writing

    cdef char* reserve(self, size_t size) noexcept:
        cdef QueueSegment* segment = self.out.last
        if self.reactor.n_gather and self.reactor.dirty is self:
            self.flush()
            segment = self.out.last
        if segment == NULL or segment.cap < segment.end + size:
            segment = segment_new(size)
            if segment == NULL:
                return NULL
            if segment.cap - segment.end < size:
                segment_free(segment)
                return NULL
            queue_append(&self.out, segment)
        return segment.start + segment.end

    cdef void commit(self, size_t size) noexcept:
        self.out.last.end += <uint32_t>size
        self.out.size += size
        if not self.is_blocked:
            self.reactor.mark_dirty(self)

    cdef int write(self, const char* data, size_t size) noexcept:
        cdef iovec* span
        cdef QueueSegment* last
        if self.is_broken or size == 0:
            return 0
        if not self.is_blocked:
            self.reactor.mark_dirty(self)
            last = self.out.last
            if size <= JOINED_SIZE and not self.reactor.n_gather and last != NULL and last.end + size <= last.cap:
                memcpy(last.start + last.end, data, size)
                last.end += <uint32_t>size
                self.out.size += size
                return 0
            if self.reactor.n_gather == GATHER_MAX:
                self.flush()
        if self.is_blocked:
            return self.write_copy(data, size)
        if self.is_broken:
            return 0
        self.reactor.mark_dirty(self)
        span = &self.reactor.gather[self.reactor.n_gather]
        span.iov_base = <void*>data
        span.iov_len = size
        self.reactor.n_gather += 1
        return 0

    cdef int write_copy(self, const char* data, size_t size) noexcept:
        cdef QueueSegment* segment
        cdef size_t part
        if self.is_broken:
            return 0
        while size:
            segment = self.out.last
            if segment == NULL or segment.end >= segment.cap:
                if self.reserve(1 if size < BUFFER_SMALL // 2 else BUFFER_LARGE - sizeof(QueueSegment)) == NULL:
                    return -1
                segment = self.out.last
            part = segment.cap - segment.end
            if part > size:
                part = size
            memcpy(segment.start + segment.end, data, part)
            self.commit(part)
            data += part
            size -= part
        return 0

    cdef int write_kept(self, bytes body, size_t size) noexcept:
        if self.is_broken:
            return 0
        if self.reactor.n_gather and self.reactor.dirty is self:
            self.flush()         # it goes first
            if self.is_broken:
                return 0
        if queue_push_kept(&self.out, body, size) < 0:
            return -1
        if not self.is_blocked:
            self.reactor.mark_dirty(self)
        return 0

    cdef int write_small(self, const char* data, size_t size) noexcept:
        cdef char* place
        if self.is_broken:
            return 0
        if not self.is_blocked:
            self.reactor.mark_dirty(self)
            if self.reactor.n_gather == GATHER_MAX:
                self.flush()
        if self.is_blocked:
            return self.write_copy(data, size)
        place = self.reactor.small[self.reactor.n_gather]
        memcpy(place, data, size)
        return self.write(place, size)

    cdef size_t unsent(self) noexcept:
        cdef size_t total = self.out.size
        cdef int i
        if self.reactor.dirty is self:
            for i in range(self.reactor.n_gather):
                total += self.reactor.gather[i].iov_len
        return total

    cdef void flush(self) noexcept:
        """Write the queue and what was gathered; copy what is not taken."""
        cdef iovec spans[SEGMENTS_PER_WRITE + GATHER_MAX]
        cdef iovec* gather = self.reactor.gather
        cdef QueueSegment* segment
        cdef int count, first = 0, n_gather
        cdef size_t total, queued
        cdef Py_ssize_t taken
        n_gather = self.reactor.n_gather if self.reactor.n_gather and (self.reactor.dirty is self or
                                                                      self.reactor.dirty is None) else 0
        self.reactor.n_gather -= n_gather
        if self.reactor.dirty is self:
            self.reactor.dirty = None
        if self.is_closed or self.is_broken:
            return
        while not self.is_blocked and (self.out.size or first < n_gather):
            count = 0
            total = queued = 0
            segment = self.out.first
            while segment != NULL and count < SEGMENTS_PER_WRITE:
                spans[count].iov_base = segment.start + segment.at
                spans[count].iov_len = segment.end - segment.at
                queued += segment.end - segment.at
                count += 1
                segment = segment.next
            total = queued
            if segment == NULL:
                while first < n_gather and count < SEGMENTS_PER_WRITE + GATHER_MAX:
                    spans[count] = gather[first]
                    total += gather[first].iov_len
                    count += 1
                    first += 1
            self.transport.is_last = self.is_ending and segment == NULL and first == n_gather
            taken = self.transport.write(spans, count)
            if taken < 0:
                if taken == IO_WOULD_BLOCK:
                    self.is_blocked = True
                    taken = 0
                else:
                    self.after_write_error(False)
                    return
            self.bytes_written += taken
            if <size_t>taken < total:
                self.is_blocked = True
            queue_drop(&self.out, <size_t>taken if <size_t>taken < queued else queued)
            if <size_t>taken >= queued:
                taken -= queued
            else:
                taken = 0
            # spans behind the queued ones that were not (wholly) taken
            if total > queued and not self.copy_rest(spans, count, queued, <size_t>taken):
                self.after_write_error(True)
                return
        if self.is_blocked and first < n_gather:
            while first < n_gather:
                if self.write_copy(<char*>gather[first].iov_base, gather[first].iov_len) < 0:
                    self.after_write_error(True)
                    return
                first += 1
        if self.is_blocked and not self.watches_writing:
            self.watches_writing = True
            if self.reactor.watch(self, self.transport.fd, EDGES_BOTH) < 0:
                self.after_write_error(True)
                return
        if self.wants_shutdown and self.out.size == 0:
            self.wants_shutdown = False
            self.has_shut = True
            self.transport.shutdown()

    cdef bint copy_rest(self, iovec* spans, int count, size_t queued, size_t taken) noexcept:
        """Queue what is left of the gathered spans, which follow `queued` bytes of segments in `spans`. False
        without memory.
        """
        cdef int i = 0
        cdef size_t size
        while queued:
            queued -= spans[i].iov_len
            i += 1
        while i < count:
            size = spans[i].iov_len
            if taken >= size:
                taken -= size
            else:
                if self.write_copy(<char*>spans[i].iov_base + taken, size - taken) < 0:
                    return False
                taken = 0
            i += 1
        return True

    cdef void after_write_error(self, bint lacks_memory) noexcept:
        self.is_broken = True
        self.lacks_memory = lacks_memory
        queue_free(&self.out)
        self.reactor.make_ready(self)

    cdef void shutdown_write(self) noexcept:
        if self.is_broken or self.is_closed:
            return
        if self.unsent():
            self.wants_shutdown = True
        else:
            self.has_shut = True
            self.transport.shutdown()

    # -- ending

    cdef void detach(self) noexcept:
        self.is_closed = True
        timer_unlink(&self.timer)
        if self.reactor.dirty is self:
            self.reactor.dirty = None
            self.reactor.n_gather = 0
        self.reactor.forget(self)
        queue_free(&self.out)

    cdef void close(self) noexcept:
        if not self.is_closed:
            self.detach()
            if self.resets:
                self.transport.reset()
            else:
                self.transport.close()
            self.reactor.bury(self)
            if not self.in_turn:
                self.free_pending()

    cdef void reset(self) noexcept:
        self.resets = True
        self.close()

    cdef void hand_over(self, Connection successor) noexcept:
        successor.reactor = self.reactor
        successor.transport = self.transport
        successor.bytes_read = self.bytes_read
        successor.bytes_written = self.bytes_written
        successor.can_read = self.can_read
        successor.saw_hangup = self.saw_hangup
        successor.saw_reset = self.saw_reset
        successor.saw_eof = self.saw_eof
        successor.is_blocked = self.is_blocked
        successor.watches_writing = self.watches_writing
        self.is_closed = True
        timer_unlink(&self.timer)
        self.reactor.replace(self, successor)

    # -- defaults for what subclasses override

    cdef void on_open(self) noexcept:
        pass

    cdef void on_open_failed(self, int code) noexcept:
        self.close()

    cdef size_t room(self) noexcept:
        return self.read_limit

    cdef size_t on_bytes(self, const char* data, size_t size) noexcept:
        return size

    cdef void on_end(self, int code) noexcept:
        self.close()

    cdef void on_writable(self) noexcept:
        pass

    cdef void on_broken(self) noexcept:
        self.close()

    cdef void on_hangup(self, bint is_reset) noexcept:
        pass

    cdef void on_timeout(self) noexcept:
        self.close()
