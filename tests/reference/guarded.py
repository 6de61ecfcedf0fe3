"""Memory between two pages that may not be touched: a decoder that reads a byte too many ends the process."""

import ctypes
import mmap

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_PROT_NONE = 0


class Guarded:
    """`size` bytes at most, with an unreadable page before and behind."""

    def __init__(self, size: int = 65536) -> None:
        page = mmap.PAGESIZE
        self.size = -(-size // page) * page
        self._map = mmap.mmap(-1, self.size + 2 * page)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + page
        for guard in (self.start - page, self.start + self.size):
            if _libc.mprotect(guard, page, _PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def _place(self, data: bytes, at: int) -> ctypes.Array[ctypes.c_char]:
        ctypes.memmove(self.start + at, data, len(data))
        return (ctypes.c_char * len(data)).from_address(self.start + at)

    def at_end(self, data: bytes) -> ctypes.Array[ctypes.c_char]:
        """Put `data` flush against the page behind; good until the next call."""
        return self._place(data, self.size - len(data))

    def at_start(self, data: bytes) -> ctypes.Array[ctypes.c_char]:
        """Put `data` flush against the page before; good until the next call."""
        return self._place(data, 0)

    def pages_around(self) -> list[str]:
        """Return the permissions of the page before, of the memory and of the page behind, as the kernel has them."""
        wanted = (self.start - 1, self.start, self.start + self.size)
        found = {}
        with open("/proc/self/maps") as maps:
            for row in maps:
                bounds, permissions = row.split()[:2]
                low, high = (int(bound, 16) for bound in bounds.split("-"))
                found |= {address: permissions for address in wanted if low <= address < high}
        return [found[address] for address in wanted]
