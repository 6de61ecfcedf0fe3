#!/usr/bin/env bash
# Build a variant of the core in a tree of its own and run the suite there: tools/variant.sh debug|asan [pytest arguments].
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

kind=$1
shift
tree=$ROOT/build/$kind
reports=$tree/reports

build_tree() {
    say "building the $kind variant in build/$kind"
    (cd "$tree" && PINGORA_BUILD=$kind quietly "$VENV/bin/python" setup.py build_ext --inplace) || fail "the $kind build failed"
}

# Every process that a test starts inherits the sanitizer and its settings; each writes a report of its own.
use_sanitizer() {
    local compiler=${CC:-gcc}
    export PYTHONMALLOC=malloc # pymalloc's arenas would hide overflows
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1:log_path=$reports/asan
    LD_PRELOAD=$("$compiler" -print-file-name=libasan.so):$("$compiler" -print-file-name=libubsan.so)
    export LD_PRELOAD
}

# Other people's programs run without it: those of Debian 12 that call setlocale or textdomain wait there for ever with it.
spare_other_programs() {
    local name path spared=$tree/build/bin
    mkdir -p "$spared"
    for name in curl git h2load h2spec haproxy nginx openssl slowhttptest sslscan sslyze systemd-analyze testssl wrk; do
        path=$(command -v "$name") || continue
        printf '#!/bin/sh\nunset LD_PRELOAD\nexec %s "$@"\n' "$path" >"$spared/$name"
        chmod +x "$spared/$name"
    done
    PATH=$spared:$PATH
}

run_tests() (
    cd "$tree"
    rm -rf "$reports"
    mkdir -p "$reports"
    export PYTHONPATH=$tree/src PATH=$PATH:/usr/sbin:/sbin
    if [ "$kind" = asan ]; then
        spare_other_programs
        use_sanitizer
    fi
    # UBSan's message is lost under pytest's default capture: the process dies first.
    "$VENV/bin/python" -m pytest -p no:cacheprovider --capture=sys "$@"
)

tools/setup.sh test
tools/build.sh
copy_tree "$tree"
build_tree
code=0
run_tests "$@" || code=$?
if [ -n "$(ls -A "$reports")" ]; then
    head -n 40 "$reports"/* >&2
    fail "the sanitizer reported errors: $(ls "$reports" | wc -l) files in build/$kind/reports"
fi
[ $code -eq 0 ] || fail "the suite failed in the $kind variant (exit code $code)"
