"""Fuzz target: a TLS client's hello is judged as the slow reference does, whole and in two parts."""

import slow_client_hello
from in_two_parts import fuzz

from pingora_c.prelude import client_hello

fuzz(client_hello.parse, slow_client_hello.parse, 65536)
