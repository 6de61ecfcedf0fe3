#!/usr/bin/env bash
# Build the wheel and run the suite on every Python that is found: tools/matrix.sh [pytest arguments].
# shellcheck source=tools/common.sh
source "$(dirname "$0")/common.sh"

VERSIONS=(3.11 3.12 3.13 3.14)

# Print the interpreter of a version: on the PATH, or one that pyenv has installed.
find_python() {
    local candidate
    for candidate in "$(command -v "python$1")" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if [ -x "$candidate" ] && [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

failed=()
for version in "${VERSIONS[@]}"; do
    if ! python=$(find_python "$version"); then
        say "Python $version: not found, skipped"
        continue
    fi
    say "Python $version: $python"
    PYTHON=$python tools/wheel.sh "$@" || failed+=("$version")
done
[ ${#failed[@]} -eq 0 ] || fail "failed on Python ${failed[*]}"
