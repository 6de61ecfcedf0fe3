#!/bin/sh
# Build the libraries that wheels are linked with, in the containers of cibuildwheel: OpenSSL and nghttp2, into
# /usr/local or PREFIX. Static only, since the linker would take shared ones. Of each the newest release of a series is
# taken, so that a rebuild has its security fixes; its checksum is published with it. Plain sh: the containers with musl
# may have no bash.
set -eu

# Those of the core, in pyproject.toml: OpenSSL and nghttp2 would take them in place of their own -O3 and -O2.
unset CFLAGS LDFLAGS

OPENSSL_SERIES=3.5  # long-term support until April 2030
NGHTTP2_SERIES=1
PREFIX=${PREFIX:-/usr/local}

# Print the newest version of a series: of what repository, and what stands before the version in its tags.
newest() {
    git ls-remote --tags --refs "https://github.com/$1" "refs/tags/$2$3.*" |
        sed "s|.*refs/tags/$2||" | grep -E '^[0-9.]+$' | sort -t. -k1,1n -k2,2n -k3,3n | tail -n 1
}

fetch() {
    curl --fail --location --silent --show-error --output "$2" "https://github.com/$1/$2"
}

# For tools/sbom.py, which puts it into the wheel.
keep_licence() {
    mkdir -p "$PREFIX/share/licenses/$1"
    cp "$2" "$PREFIX/share/licenses/$1"
}

# Perl's modules that OpenSSL's configuration asks for; Alpine's perl has them.
if command -v dnf >/dev/null; then
    dnf install -y perl-IPC-Cmd perl-Time-Piece zlib-devel
else
    apk add --no-cache perl linux-headers zlib-dev
fi

cd "$(mktemp -d)"

openssl=openssl-$(newest openssl/openssl openssl- $OPENSSL_SERIES)
fetch "openssl/openssl/releases/download/$openssl" "$openssl.tar.gz"
fetch "openssl/openssl/releases/download/$openssl" "$openssl.tar.gz.sha256"
sha256sum -c "$openssl.tar.gz.sha256"
tar -xzf "$openssl.tar.gz"
(
    cd "$openssl"
    # The directory of the system's authorities and configuration is the distribution's, not one below /usr/local.
    ./config --prefix="$PREFIX" --libdir=lib --openssldir=/etc/ssl no-shared no-apps no-tests no-docs no-legacy no-engine
    grep -q '^CFLAGS=.*-O3' Makefile || { echo "$openssl would be compiled without -O3" >&2; exit 1; }
    make -j"$(nproc)" >/dev/null
    make install_sw >/dev/null
    keep_licence openssl LICENSE.txt
)

version=$(newest nghttp2/nghttp2 v $NGHTTP2_SERIES)
nghttp2=nghttp2-$version
fetch "nghttp2/nghttp2/releases/download/v$version" "$nghttp2.tar.gz"
fetch "nghttp2/nghttp2/releases/download/v$version" checksums.txt
grep -F " $nghttp2.tar.gz" checksums.txt | sha256sum -c -
tar -xzf "$nghttp2.tar.gz"
(
    cd "$nghttp2"
    ./configure --prefix="$PREFIX" --libdir="$PREFIX/lib" --enable-lib-only --disable-shared --with-pic >/dev/null
    make -j"$(nproc)" install >/dev/null
    keep_licence nghttp2 COPYING
)
