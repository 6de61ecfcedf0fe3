# Sourced by the other scripts: where we are, how to complain, how to get a system package.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
STAMPS=$ROOT/build/stamps
VENV=$ROOT/.venv

say() { printf 'pingora: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 2
}

# Run a command as root, or fail at once if that would take a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() { command -v apt-get >/dev/null && as_root true 2>/dev/null; }

# Install Debian packages if we may; else return 1.
try_install() {
    may_install || return 1
    say "installing $*"
    quietly as_root apt-get update -qq &&
        quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
}

# Run a command and show what it printed only if it fails.
quietly() {
    local output
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "$output" >&2
        return 1
    fi
}

# The command a person has to type to get these packages.
install_command() {
    printf 'apt-get update && apt-get install -y --no-install-recommends %s' "${*% }"
}

# Copy the sources into another tree, keeping the times, so that only what changed is built anew there.
copy_tree() {
    mkdir -p "$1"
    find "$1" -mindepth 1 -maxdepth 1 ! -name build ! -name reports -exec rm -rf {} +
    tar -cf - --exclude=./build --exclude=./dist --exclude=./.venv --exclude=./.git --exclude='*.so' \
        --exclude='*.egg-info' --exclude=__pycache__ --exclude='./.*_cache' --exclude=./.hypothesis . | tar -xf - -C "$1"
}
