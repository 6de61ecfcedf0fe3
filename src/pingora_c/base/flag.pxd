"""A truth value of one byte where `bint` has four, for objects of which there is one per connection."""
from libc.stdint cimport uint8_t

ctypedef uint8_t flag     # assign nothing but 0, 1, True, False and what a comparison gives: a mask may be past 255
