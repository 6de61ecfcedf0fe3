#!/usr/bin/env bash
# Play a stranger: tools/stranger.sh [WHEEL]. Install the wheel (default: the newest in dist/) into a clean environment,
# follow the tutorial and the README as they are written, commands and files, and compare what comes with what is shown.
# The README is followed in a clone of this repository, where `make run` builds from source; `make test` is left out.
# The ports of the pages (8080, 8443, 9001 …) must be free. PYTHON chooses the interpreter.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

PYTHON=${PYTHON:-python3}
# shellcheck disable=SC2012
wheel=${1:-$(ls -t dist/*.whl 2>/dev/null | head -1)}
[ -f "$wheel" ] || fail "there is no wheel; first: make wheel ARGS=none"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

follow() {
    env -i HOME="$work/home" LANG=C.UTF-8 PATH="$work/bin:$work/venv/bin:/usr/local/bin:/usr/bin:/bin" \
        "$work/venv/bin/python" "$ROOT/tests/docs/walkthrough.py" "$@"
}

"$PYTHON" -m venv "$work/venv"
mkdir "$work/home" "$work/bin" "$work/tutorial"
quietly "$work/venv/bin/python" -m pip install --disable-pip-version-check --quiet "$wheel" ||
    fail "the wheel could not be installed"
say "$("$work/venv/bin/pingora" version), installed from $(basename "$wheel")"
follow docs/tutorial.md "$work/tutorial"
quietly git clone --quiet "$ROOT" "$work/clone"
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$1" = test ] || exec /usr/bin/make "$@"\n' >"$work/bin/make"
chmod +x "$work/bin/make"
follow README.md "$work/clone"
