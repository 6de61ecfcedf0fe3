#!/usr/bin/env bash
# Compare every .pyi with the module that was built.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

export PYTHONPATH=$ROOT/src MYPYPATH=$ROOT/src
exec "$VENV/bin/stubtest" pingora_c --concise --allowlist tools/stubtest.allow --ignore-unused-allowlist \
    --ignore-disjoint-bases
