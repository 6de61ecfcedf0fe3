"""Versions, ciphers and groups: defaults and their check."""

from pingora_c.net.tls_context import TlsRules

# Mozilla's "intermediate" of 2024 without DHE: forward secrecy and authenticated encryption only.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
CIPHER_SUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
# The first with the hybrid of RFC 9794, for an OpenSSL (3.5 and later) that has it.
GROUPS = ("X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384")

VERSIONS = {"1.2": 0x0303, "1.3": 0x0304}
PROTOCOLS = ("h2", "http/1.1")


def make_rules(min_version: str, max_version: str, ciphers: str, cipher_suites: str, groups: str | None) -> TlsRules:
    """Check and freeze. Raises ValueError."""
    for name, version in (("min_version", min_version), ("max_version", max_version)):
        if version not in VERSIONS:
            raise ValueError(f"{name}: expected '1.2' or '1.3', got {version!r}")
    if VERSIONS[min_version] > VERSIONS[max_version]:
        raise ValueError(f"min_version {min_version} is above max_version {max_version}")
    return TlsRules(
        versions=(VERSIONS[min_version], VERSIONS[max_version]),
        ciphers=ciphers.encode(),
        suites=cipher_suites.encode(),
        groups=tuple(entry.encode() for entry in (GROUPS if groups is None else (groups,))),
    )


def alpn_wire(alpn: tuple[str, ...], spoken: tuple[str, ...] = PROTOCOLS) -> bytes:
    """Encode protocols for ALPN (RFC 7301 §3.1). Raises ValueError for one that is not `spoken`."""
    for protocol in alpn:
        if protocol not in spoken:
            raise ValueError(f"alpn: expected one of {', '.join(spoken)}, got {protocol!r}")
    return b"".join(bytes([len(protocol)]) + protocol.encode() for protocol in alpn)
