"""Fuzz target: streams of requests by chance, judged by a live proxy and by h11; see tests/differential.

fuzz_connection.py SECONDS FINDINGS: each difference without a reason is made small and kept as a file in FINDINGS.
fuzz_connection.py FILE…: compare these streams again.
"""

import hashlib
import logging
import random
import sys
import time
from pathlib import Path

from beside_h11 import Explanations, Pair, check, smallest
from streams import stream

TESTS = Path(__file__).parent.parent
FINDINGS_MOST = 20


def search(pair, explanations, seconds, findings):
    """Return the number of findings."""
    corpus = [path.read_bytes() for path in sorted((TESTS / "fuzz/corpus/connection").iterdir())]
    seed = random.SystemRandom().randrange(1 << 40)
    print(f"first seed {seed}")
    end, n_streams, found = time.monotonic() + seconds, 0, set()
    while time.monotonic() < end and len(found) < FINDINGS_MOST:
        rng = random.Random(seed + n_streams)
        data = stream(rng, corpus)
        n_streams += 1
        if check(pair, explanations, data, rng) is None:
            continue
        small = smallest(data, lambda part: check(pair, explanations, part))
        if small in found or check(pair, explanations, small) is None:
            small = data  # it needs its pieces
        found.add(small)
        path = findings / f"connection-{hashlib.sha256(small).hexdigest()[:16]}"
        path.write_bytes(small)
        print(f"{path}: seed {seed + n_streams - 1}, {check(pair, explanations, small)}")
    print(f"{n_streams} streams, {len(pair.origin.requests)} requests reached the origin, {len(found)} findings")
    return len(found)


def main():
    """Search, or look at files again; exit with 1 if there is a difference without a reason."""
    logging.disable(logging.CRITICAL)
    pair = Pair()
    explanations = Explanations(TESTS / "differential/differences.toml")
    if sys.argv[1].isdigit():
        n_bad = search(pair, explanations, int(sys.argv[1]), Path(sys.argv[2]))
    else:
        problems = {name: check(pair, explanations, Path(name).read_bytes()) for name in sys.argv[1:]}
        for name, problem in problems.items():
            print(f"{name}: {problem or 'as h11, or for a reason'}")
        n_bad = sum(problem is not None for problem in problems.values())
    pair.close()
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
