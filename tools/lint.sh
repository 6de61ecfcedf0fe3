#!/usr/bin/env bash
# Every static check; all of them run, the exit code says whether one failed.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

tools/setup.sh test
tools/build.sh
export PATH=$VENV/bin:$PATH MYPYPATH=$ROOT/src
failed=()

check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf '  %-12s ok\n' "$name"
    else
        printf '  %-12s FAILED\n%s\n' "$name" "$output"
        failed+=("$name")
    fi
}

check ruff ruff check --quiet .
check format ruff format --check --quiet .
check mypy mypy
check pyright pyright --pythonpath "$VENV/bin/python"
check stubs tools/stubtest.sh
check cython-lint cython-lint src
check rules python tools/lint.py
check docs python tools/docs.py
check workflows check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
! command -v actionlint >/dev/null || check actionlint actionlint
check wheels cibuildwheel --print-build-identifiers --platform linux .
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
