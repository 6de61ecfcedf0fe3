#!/usr/bin/env bash
# Compile the core in place and make the package importable from .venv, with its command and its pytest plugin.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

tools/setup.sh
mkdir -p "$STAMPS"

log=$ROOT/build/build.log
if ! .venv/bin/python setup.py build_ext --inplace >"$log" 2>&1; then
    cat "$log" >&2
    fail "the build failed; its output is above and in build/build.log"
fi

# The link is made once for each pyproject.toml; PINGORA_BUILD=none leaves the extensions out, they are built above.
link=$STAMPS/link
if [ pyproject.toml -nt "$link" ] || ! .venv/bin/python -c 'import pingora_c.http' 2>/dev/null; then
    PINGORA_BUILD=none quietly .venv/bin/python -m pip install --disable-pip-version-check --quiet \
        --no-build-isolation --no-deps --editable . || fail "the package could not be linked into .venv"
    touch "$link"
fi
