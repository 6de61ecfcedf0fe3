#!/usr/bin/env bash
# Build, then run the test suite; arguments go to pytest.
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

tools/setup.sh test
tools/build.sh
PATH=$PATH:/usr/sbin:/sbin exec .venv/bin/python -m pytest "$@"
