"""Words that options take, and the numbers that the core has for them."""

ACCESS_FORMATS = {"off": 0, "combined": 1, "json": 2}
LOG_LEVELS = ("debug", "info", "warning", "error")
CLIENT_CERT_FIELDS = {"off": 0, "certificate": 1, "chain": 2}
FORWARDED_FIELDS = {"x-forwarded": 1, "forwarded": 2, "both": 3, "off": 0}
INSTANCE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}"  # part of a file's name; with "@" as systemd's templates
WANTED_INSTANCE_NAME = "expected a name of up to 64 letters, digits, '_', '-', '.' and '@'"
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a name in a header field (RFC 9110 §5.6.2)
