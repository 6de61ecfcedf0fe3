#!/usr/bin/env bash
# Build the core as wheels have it, in build/profiled: tools/profiled.sh. With PYTHONPATH=build/profiled/src it is what runs.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

tree=$ROOT/build/profiled
stamp=$tree/build/stamp

changed() {
    find src setup.py tools/train.py examples/gateway.py \( -name '*.so' -o -name __pycache__ \) -prune \
        -o -newer "$stamp" -type f -print -quit
}

[ -e "$stamp" ] && [ -z "$(changed)" ] && exit
copy_tree "$tree"
cd "$tree"
"$VENV/bin/python" tools/train.py || fail "the core could not be built by a profile"
say "building the core by what was counted"
PINGORA_BUILD=profiled quietly "$VENV/bin/python" setup.py build_ext --inplace ||
    fail "the core could not be built by a profile"
touch "$stamp"
