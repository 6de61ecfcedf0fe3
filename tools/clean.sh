#!/usr/bin/env bash
# Remove everything that a build or a test run leaves behind.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage src/*.egg-info
find src -name '*.so' -delete
find src tests tools benches examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
