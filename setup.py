"""Build of the compiled core.

The modules are one table, the Cython directives one place. All modules but two are linked into one library,
pingora_c.core, which makes Python modules of them: a library each costs a dlopen and a dozen pages of memory.
PINGORA_BUILD chooses the kind of build:
release (default), quick (the same without link-time optimization, for work on the core), instrumented (a quick one that
counts what it does; tools/train.py), profiled (a release that follows those counts: the wheels), debug (Cython's own
checks, object counts), asan (AddressSanitizer and UBSan),
fuzz (libFuzzer instrumentation, needs CC=clang), coverage (line tracing) or none (metadata only: tools/build.sh links
the tree into .venv with it and compiles in place).
"""

import os
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if not sys.platform.startswith("linux"):
    sys.exit("pingora: only Linux is supported by this version (the core is written on epoll)")

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

ROOT = Path(__file__).parent
KIND = os.environ.get("PINGORA_BUILD", "release")
RELEASES = ("release", "quick", "instrumented", "profiled")
# Counts are of lines, so both builds that a profile takes compile the same files.
GENERATED = Path(f"build/cython-{'profiled' if KIND == 'instrumented' else KIND}")

# One row per module below src/pingora_c that is linked into the core; a module that only has a .pxd has no row.
MODULES = [
    "base.clock",
    "base.linked",
    "base.properties",
    "mem.buffer_pool",
    "mem.byte_queue",
    "mem.shared_ring",
    "mem.probe",
    "stats.histogram",
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
    "h2.memory",
    "h2.priority",
    "h2.settings",
    "h2.trailers",
    "h2.session",
    "h2.answer",
    "h2.handshake",
    "h2.probe",
    "prelude.proxy_header",
    "prelude.client_hello",
    "ws.utf8",
    "ws.frame",
    "ws.deflate",
    "ws.message",
    "net.timer",
    "net.probe",
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
    "upstream.endpoint",
    "upstream.balancer",
    "upstream.select.round_robin",
    "upstream.select.ketama",
    "upstream.select.weighted",
    "upstream.select.random",
    "upstream.select.fnv_hash",
    "upstream.select.least_connections",
    "upstream.peer",
    "upstream.h1_origins",
    "upstream.pool",
    "log.writer",
    "log.percent",
    "log.record",
    "log.logger",
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
    "proxy.h2_limits",
    "proxy.h2_server",
    "proxy.upstream_leg",
    "proxy.h2_request",
    "proxy.h2_client",
    "proxy.h2_groups",
    "proxy.h2_client_stream",
    "proxy.connector",
    "proxy.task",
    "proxy.response",
    "proxy.grpc",
    "proxy.timings",
    "proxy.client_cert",
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
if KIND in ("debug", "asan"):
    MODULES.append("base.lifetimes")
# A supervisor maps these, and neither the rest nor what that is linked with.
ALONE = [
    "stats.reading",
    "upstream.address",
]
CORE = "pingora_c.core"
LIBRARIES = ["ssl", "crypto", "nghttp2", "z"]  # what the core is linked with

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

RELEASE = ["-O2", "-g1", *HARDENING]
HARDENED = ["-Wl,-z,relro,-z,now", "-Wl,--exclude-libs,ALL"]
# A third less code: modules have functions of Cython's in common.
LINKED_AS_ONE = [] if "clang" in os.environ.get("CC", "") else ["-flto=auto"]

# A fifth less time in the core, see docs/architecture.md. What was not counted is compiled as in a release. The counts
# are in files whose names have the place of this tree in them.
PROFILE = f"{ROOT.resolve()}/build/profile"
COUNTING = ["-fprofile-generate", "-fprofile-update=prefer-atomic", f"-fprofile-dir={PROFILE}"]
FOLLOWING = [f"-fprofile-use={PROFILE}", "-fprofile-partial-training", "-Wno-missing-profile"]

KINDS = {
    "release": ({}, [*RELEASE, *LINKED_AS_ONE], ["-O2", *HARDENED, *LINKED_AS_ONE]),
    "quick": ({}, RELEASE, HARDENED),
    "instrumented": ({}, [*RELEASE, *COUNTING], [*HARDENED, *COUNTING]),
    "profiled": ({}, [*RELEASE, *LINKED_AS_ONE, *FOLLOWING], ["-O2", *HARDENED, *LINKED_AS_ONE, *FOLLOWING]),
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


def extension(name: str, source: str, cflags: list[str], ldflags: list[str], libraries: list[str]) -> Extension:
    return Extension(
        name,
        [source],
        include_dirs=["src/pingora_c/lib", str(GENERATED)],
        depends=[str(header) for header in Path("src/pingora_c/lib").glob("*.h")],
        extra_compile_args=["-fvisibility=hidden", *WARNINGS, *cflags],
        extra_link_args=ldflags,
        libraries=libraries,
    )


def extensions(cflags: list[str], ldflags: list[str]) -> list[Extension]:
    """Make one Extension for the core, for each module alone, and for each module that the core holds."""
    if KIND == "none":
        return []
    return [
        extension(f"pingora_c.{name}", f"src/pingora_c/{name.replace('.', '/')}.pyx", cflags, ldflags, libraries)
        for name, libraries in [("core", LIBRARIES), *((name, []) for name in ALONE + MODULES)]
    ]


def initializer(name: str) -> str:
    """Name the C function that a module of the core begins with: Cython's own has only the last part of the name."""
    return "PyInit_" + name.replace(".", "_")


def write_table(names: list[str]) -> None:
    """Write the header that src/pingora_c/core.pyx reads: the modules of the core and where each begins."""
    declared = "".join(f"PyObject *{initializer(name)}(void);\n" for name in names)
    rows = "".join(f'    {{"pingora_c.{name}", {initializer(name)}}},\n' for name in names)
    row = "typedef struct { const char *name; PyObject *(*begin)(void); } CoreModule;\n"
    text = f"{declared}\n{row}static const CoreModule core_modules[] = {{\n{rows}    {{NULL, NULL}},\n}};\n"
    table = GENERATED / "core_modules.h"
    table.parent.mkdir(parents=True, exist_ok=True)
    if not table.exists() or table.read_text() != text:
        table.write_text(text)


BUILT_AS = Path("build/built_as")  # how the objects in this tree were made


def how() -> str:
    """Tell all that the objects depend on beside the sources; for those who look for faults, the whole of this file."""
    flags = [os.environ.get(name) for name in ("CC", "CFLAGS", "LDFLAGS")]
    return repr((KIND, flags, DIRECTIVES, KINDS[KIND] if KIND in RELEASES else Path(__file__).read_text()))


def is_stale() -> bool:
    """Whether what was built here before was built otherwise."""
    return BUILT_AS.read_text() != how() if BUILT_AS.exists() else KIND != "release"


class Build(build_ext):
    """build_ext that compiles the modules of the core side by side and links them into one library."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.force = self.force or is_stale()

    def run(self) -> None:
        if not self.extensions:
            return
        if self.force:
            BUILT_AS.write_text("")  # an end in between leaves objects of both kinds
        super().run()
        self.remove_strays()
        BUILT_AS.write_text(how())

    def build_extensions(self) -> None:
        """Compile what the core holds, then build the core and the modules alone, as any extension."""
        libraries = {CORE, *(f"pingora_c.{name}" for name in ALONE)}
        held = [module for module in self.extensions if module.name not in libraries]
        self.extensions = [library for library in self.extensions if library.name in libraries]
        with ThreadPoolExecutor(self.parallel) as compilers:
            objects = list(compilers.map(self.compile, held))
        for library in self.extensions:
            if library.name == CORE:
                library.extra_objects = objects
                library.depends += [*objects, str(GENERATED / "core_modules.h")]
        super().build_extensions()

    def compile(self, module: Extension) -> str:
        """Compile one module, if it changed, and give its object file."""
        directory = os.path.join(self.build_temp, "core")
        [compiled] = self.compiler.object_filenames(module.sources, output_dir=directory)
        if self.force or newer_group(module.sources + module.depends, compiled):
            name = module.name.removeprefix("pingora_c.")
            self.compiler.compile(
                module.sources,
                output_dir=directory,
                include_dirs=module.include_dirs,
                macros=[("CYTHON_NO_PYINIT_EXPORT", "1"), (initializer(name.rpartition(".")[2]), initializer(name))],
                extra_postargs=module.extra_compile_args,
            )
        return compiled

    def remove_strays(self) -> None:
        """Remove libraries that this build does not make: Python would find them before what the core holds."""
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        built = {self.get_ext_filename(library.name) for library in self.extensions}
        for root in (Path(self.build_lib), Path("src")):
            for library in root.glob(f"pingora_c/**/*{suffix}"):
                if str(library.relative_to(root)) not in built:
                    library.unlink()


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
                build_dir=str(GENERATED),
                show_all_warnings=is_strict,
                emit_linenums=KIND not in RELEASES,
                force=is_stale() and not (KIND == "profiled" and GENERATED.exists()),
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
    if KIND == "profiled" and not any(Path(PROFILE).glob("*.gcda")):
        sys.exit(
            "pingora: PINGORA_BUILD=profiled follows counts that are not there: run tools/train.py in this tree first"
        )
    directives, cflags, ldflags = KINDS[KIND]
    os.chdir(ROOT)
    write_table(MODULES)
    setup(ext_modules=translate(extensions(cflags, ldflags), directives), cmdclass={"build_ext": Build})


main()
