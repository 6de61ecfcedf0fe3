#!/usr/bin/env bash
# Fuzz the decoders, HTTP/2, the whole connection and TLS one after the other: tests/fuzz/run.sh [TARGET…].
# FUZZ_SECONDS (60) is the time for each.
# What is found is kept in build/fuzz/findings; tests/fuzz/run.sh NAME FILE… runs these inputs again.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/../../tools/common.sh"

TARGETS=(head chunked h2 websocket proxy_header client_hello connection tls)
TREE=$ROOT/build/fuzz/tree
FINDINGS=$ROOT/build/fuzz/findings
PACKAGES=(lib base mem http h1 h2 ws prelude) # a codec has nothing else below it

find_clang() {
    local compiler
    for compiler in "${CC:-clang}" clang clang-14; do
        if echo 'int main(void) { return 0; }' | "$compiler" -x c -fsanitize=address -o /dev/null - 2>/dev/null; then
            echo "$compiler"
            return
        fi
    done
    fail "no clang with its sanitizers found"
}

# Copy the codecs and what they stand on into a tree of their own, whose setup.py has the rows of no other package.
copy_tree() {
    local package
    rm -rf "$TREE"
    mkdir -p "$TREE/src/pingora_c"
    cp README.md LICENSE "$TREE"
    # The version stands in the Python package, which is not there.
    sed 's/^dynamic = \["version"\]/version = "0"/' pyproject.toml >"$TREE/pyproject.toml"
    sed -E "/^    \"($(IFS='|' && echo "${PACKAGES[*]}"))\./! { /^    \"[a-z0-9_.]+\",\$/d }" setup.py >"$TREE/setup.py"
    cp src/pingora_c/{__init__,core}.* "$TREE/src/pingora_c"
    for package in "${PACKAGES[@]}"; do
        cp -r "src/pingora_c/$package" "$TREE/src/pingora_c"
    done
    find "$TREE" -name '*.so' -delete
}

build_tree() {
    local stamp=$ROOT/build/fuzz/built
    if [ -e "$stamp" ] && [ -z "$(find src setup.py -newer "$stamp" ! -name '*.so' ! -name '*.pyc' ! -name __pycache__ -type f)" ]; then
        return
    fi
    rm -f "$stamp"
    copy_tree
    say "building the codecs for the fuzzer with $1"
    (cd "$TREE" && CC=$1 PINGORA_BUILD=fuzz quietly "$VENV/bin/python" setup.py build_ext --inplace) ||
        fail "the fuzz build failed"
    touch "$stamp"
}

# The fuzzer and the sanitizer come as one library, loaded before Python.
fuzz() {
    local runtime
    runtime=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/asan_with_fuzzer.so
    ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=32 PYTHONMALLOC=malloc PYTHONPATH=$TREE/src:$ROOT/tests/reference \
        LD_PRELOAD=$runtime "$VENV/bin/python" "$@"
}

fuzz_target() {
    local name=$1 corpus=$ROOT/build/fuzz/corpus/$1 code=0
    mkdir -p "$corpus" "$FINDINGS"
    say "fuzzing $name for $seconds seconds"
    fuzz "tests/fuzz/fuzz_$name.py" -max_total_time="$seconds" -max_len=400 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$FINDINGS/$name-" "$corpus" "tests/fuzz/corpus/$name" 2>&1 |
        grep --line-buffered -vE '^#[0-9]+\s+(NEW|REDUCE|RELOAD)|NEW_FUNC|^#####|^"|^\s*$' || code=$?
    if [ $code -ne 0 ]; then
        say "$name: found something; the input is in build/fuzz/findings"
        failed+=("$name")
    fi
}

# The whole connection beside h11, as it is built for use.
fuzz_connection() {
    tools/build.sh
    mkdir -p "$FINDINGS"
    PYTHONUNBUFFERED=1 PYTHONPATH=$ROOT/src:$ROOT/tests/shared:$ROOT/tests/reference \
        "$VENV/bin/python" tests/fuzz/fuzz_connection.py "$@"
}

# TLS clients whose bytes are changed on the way.
fuzz_tls() {
    tools/build.sh
    PYTHONUNBUFFERED=1 PYTHONPATH=$ROOT/src:$ROOT/tests/shared "$VENV/bin/python" tests/fuzz/fuzz_tls.py "$@"
}

seconds=${FUZZ_SECONDS:-60}
failed=()
if [ $# -gt 1 ] && [ -f "$2" ]; then
    name=$1
    shift
    if [ "$name" = connection ]; then
        fuzz_connection "$@"
        exit
    fi
    build_tree "$(find_clang)"
    fuzz "tests/fuzz/fuzz_$name.py" "$@"
    exit
fi
[ $# -gt 0 ] || set -- "${TARGETS[@]}"
for name in "$@"; do
    [ -f "tests/fuzz/fuzz_$name.py" ] || fail "no target $name; there are: ${TARGETS[*]}"
    if [ "$name" = connection ]; then
        say "fuzzing $name for $seconds seconds"
        fuzz_connection "$seconds" "$FINDINGS" || failed+=("$name")
    elif [ "$name" = tls ]; then
        say "fuzzing $name for $seconds seconds"
        fuzz_tls "$seconds" || failed+=("$name")
    else
        build_tree "$(find_clang)"
        fuzz_target "$name"
    fi
done
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
