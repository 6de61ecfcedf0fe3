"""Which libraries the core is linked with: for `pingora version --build`."""
import platform

from pingora_c.lib.nghttp2 cimport nghttp2_version
from pingora_c.lib.openssl cimport OPENSSL_VERSION, OpenSSL_version
from pingora_c.lib.zlib cimport zlibVersion


def build_facts():
    """Give versions by their names: of the libraries that are linked, and of the platform."""
    return {
        "OpenSSL": OpenSSL_version(OPENSSL_VERSION).decode("ascii").removeprefix("OpenSSL "),
        "nghttp2": nghttp2_version(0).version_str.decode("ascii"),
        "zlib": zlibVersion().decode("ascii"),
        "platform": f"{platform.machine()}, {' '.join(platform.libc_ver()).strip()}",
    }
