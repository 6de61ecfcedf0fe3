"""Fuzz target: a PROXY protocol header is judged as the slow reference does, whole and in two parts."""

import slow_proxy_header
from in_two_parts import fuzz

from pingora_c.prelude import proxy_header

fuzz(proxy_header.parse, slow_proxy_header.parse, 8192)
