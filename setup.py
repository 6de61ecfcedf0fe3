"""Build of the compiled core.

The extensions are one table, the Cython directives one place. PINGORA_BUILD chooses the kind of build:
release (default), debug (Cython's own checks, object counts), asan (AddressSanitizer and UBSan),
fuzz (libFuzzer instrumentation, needs CC=clang), coverage (line tracing) or none (metadata only: tools/build.sh links
the tree into .venv with it and compiles in place).
"""

import os
import sys
import tempfile
from pathlib import Path

if not sys.platform.startswith("linux"):
    sys.exit("pingora: only Linux is supported by this version (the core is written on epoll)")

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
KIND = os.environ.get("PINGORA_BUILD", "release")

# One row per extension module below src/pingora_c; a module that only has a .pxd has no row.
EXTENSIONS = [
    "base.clock",
    "base.linked",
    "mem.buffer_pool",
    "mem.byte_queue",
    "stats.histogram",
    "stats.reading",
    "stats.counters",
    "http.field",
    "http.authority",
    "http.header_block",
    "http.header_map",
    "http.message",
    "http.trailers",
    "h1.head",
    "h1.chunked",
    "h1.verdict",
    "h1.field_table",
    "h1.upgrade",
    "h1.framing",
    "h1.target",
    "h1.hop",
    "h1.max_forwards",
    "h1.encode",
    "h1.probe",
    "h2.section",
    "h2.guard",
    "h2.session",
    "h2.answer",
    "h2.probe",
    "prelude.proxy_header",
    "prelude.client_hello",
    "ws.utf8",
    "ws.frame",
    "ws.deflate",
    "ws.message",
    "net.timer",
    "net.networks",
    "net.proxy_protocol",
    "net.admission",
    "net.reactor",
    "net.transport",
    "net.connection",
    "net.listener",
    "net.introducer",
    "net.tls",
    "net.tls_context",
    "net.tls_tickets",
    "net.tls_hello",
    "net.tls_info",
    "net.tls_server",
    "net.tls_client",
    "upstream.address",
    "upstream.endpoint",
    "upstream.balancer",
    "upstream.select.round_robin",
    "upstream.select.ketama",
    "upstream.select.weighted",
    "upstream.select.random",
    "upstream.select.fnv_hash",
    "upstream.select.least_connections",
    "upstream.peer",
    "upstream.pool",
    "log.writer",
    "log.record",
    "log.access",
    "proxy.failure",
    "proxy.refusal",
    "proxy.counter_names",
    "proxy.error_page",
    "proxy.stream",
    "proxy.server_connection",
    "proxy.h1_stream",
    "proxy.downstream",
    "proxy.h2_incoming",
    "proxy.pace",
    "proxy.h2_stream",
    "proxy.h2_server",
    "proxy.upstream_leg",
    "proxy.h2_request",
    "proxy.h2_client",
    "proxy.h2_client_stream",
    "proxy.connector",
    "proxy.task",
    "proxy.response",
    "proxy.grpc",
    "proxy.timings",
    "proxy.plan",
    "proxy.tally",
    "proxy.access",
    "proxy.selection",
    "proxy.outage",
    "proxy.replay",
    "proxy.retry",
    "proxy.hook_context",
    "proxy.body_filter",
    "proxy.message_filter",
    "proxy.websocket",
    "proxy.relay",
    "proxy.phases",
    "proxy.attempts",
    "proxy.exchange",
    "proxy.session",
    "proxy.service",
    "proxy.tcp_leg",
    "proxy.tcp_session",
    "proxy.tcp_service",
]
CHECKED_EXTENSIONS = ["base.lifetimes"]  # of debug and asan builds

# What the modules whose names begin so are linked with.
LIBRARIES = {
    "base.linked": ["ssl", "crypto", "nghttp2", "z"],
    "net.tls": ["ssl", "crypto"],
    "h2.": ["nghttp2"],
    "ws.deflate": ["z"],
}

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "annotation_typing": False,
    "embedsignature": True,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "nonecheck": False,
    "initializedcheck": False,
    "show_performance_hints": True,
}
# Not nonecheck: it forbids `self.count += 1` without the GIL.
CHECKED = {"boundscheck": True, "overflowcheck": True, "initializedcheck": True}
HARDENING = [
    "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2",
    "-fstack-clash-protection",
    "-fno-strict-aliasing",
    "-fno-plt",
]
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
# Free lists would hide births and deaths from base.lifetimes, and use after free from AddressSanitizer.
COUNTED = ["-DPINGORA_DEBUG=1", "-DCYTHON_USE_FREELISTS=0"]
SANITIZED = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-wrapv", "-U_FORTIFY_SOURCE"]

KINDS = {
    "release": ({}, ["-O2", "-g1", *HARDENING], ["-Wl,-z,relro,-z,now"]),
    "debug": (CHECKED, ["-O0", "-g", *COUNTED], []),
    "asan": (
        {},
        [*SANITIZED, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", *COUNTED],
        ["-fsanitize=address,undefined"],
    ),
    "fuzz": ({}, [*SANITIZED, "-fsanitize=fuzzer-no-link,address"], ["-fsanitize=fuzzer-no-link,address"]),
    "none": ({}, [], []),
    "coverage": ({"linetrace": True}, ["-O0", "-g", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"], []),
}


def extensions(cflags: list[str], ldflags: list[str]) -> list[Extension]:
    """Make one Extension for each row of the table."""
    if KIND == "none":
        return []
    return [
        Extension(
            f"pingora_c.{name}",
            [f"src/pingora_c/{name.replace('.', '/')}.pyx"],
            include_dirs=["src/pingora_c/lib"],
            depends=[str(header) for header in Path("src/pingora_c/lib").glob("*.h")],
            extra_compile_args=[*WARNINGS, *cflags],
            extra_link_args=ldflags,
            libraries=[library for start, of in LIBRARIES.items() if name.startswith(start) for library in of],
        )
        for name in EXTENSIONS + (CHECKED_EXTENSIONS if KIND in ("debug", "asan") else [])
    ]


class Build(build_ext):
    """build_ext that compiles the modules side by side and leaves the generated C below build/."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.force = self.force or KIND != "release"


def translate(modules: list[Extension], directives: dict[str, object]) -> list[Extension]:
    """Run Cython; warnings are errors, and so are the performance hints that it only prints.

    Not in a debug build: its checks may raise anywhere, also where a noexcept function can only print that.
    """
    is_strict = KIND != "debug"
    Options.warning_errors = is_strict
    with tempfile.TemporaryFile("w+") as captured:
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            translated = cythonize(
                modules,
                compiler_directives=DIRECTIVES | directives,
                build_dir=f"build/cython-{KIND}",
                show_all_warnings=is_strict,
                emit_linenums=KIND != "release",
                force=KIND != "release",
                nthreads=0,
            )
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            printed = captured.read()
            sys.stderr.write(printed)
    if is_strict and "performance hint:" in printed:
        sys.exit("pingora: the performance hints above are errors (spell the exception contract of each function)")
    return translated


def main() -> None:
    if KIND not in KINDS:
        sys.exit(f"pingora: PINGORA_BUILD={KIND!r} is unknown, expected one of {', '.join(KINDS)}")
    directives, cflags, ldflags = KINDS[KIND]
    os.chdir(ROOT)
    setup(ext_modules=translate(extensions(cflags, ldflags), directives), cmdclass={"build_ext": Build})


main()
