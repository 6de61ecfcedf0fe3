"""Draw a picture of docs/benchmarks.md from results that were kept.

`python -m benches.side_by_side.plot RESULT… PICTURE.svg`; each RESULT is a file that `--json` wrote.
Needs matplotlib (the extra `docs`).
"""

import sys
from pathlib import Path

from .results import Results
from .workloads import WORKLOADS

COLORS = {
    "relay": "#9e9e9e",
    "haproxy": "#1e88e5",
    "pingora-rs": "#f4511e",
    "pingora": "#2e7d32",
    "nginx-tuned": "#80cbc4",
    "haproxy-tuned": "#90caf9",
}
TITLES = {
    "pingora-rs": "Pingora (Rust)",
    "haproxy": "HAProxy",
    "nginx-tuned": "nginx, tuned",
    "haproxy-tuned": "HAProxy, tuned",
}
SHORT = {
    "small": "100 bytes",
    "64k": "64 KiB",
    "1m": "1 MiB",
    "nokeepalive": "100 bytes,\na connection each",
    "hooks": "two Python hooks",
    "gateway": "gateway.py",
    "tls": "TLS, 100 bytes",
    "tls64k": "TLS, 64 KiB",
    "handshakes": "a TLS handshake each",
    "h2": "HTTP/2, 100 bytes",
    "h264k": "HTTP/2, 64 KiB",
    "toh2c": "to HTTP/2, 100 bytes",
    "toh2c64k": "to HTTP/2, 64 KiB",
    "h2toh2c": "HTTP/2 to HTTP/2,\n100 bytes",
}


def ratios(results: list[Results]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return, by workload and peer, median and quartiles of CPU per request as a ratio to nginx."""
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for result in results:
        for workload, peers in result.workloads.items():
            for peer in peers:
                ratio = result.ratio(workload, peer, "nginx")
                if peer != "nginx" and ratio is not None:
                    found.setdefault(workload, {})[peer] = (ratio.median, ratio.low, ratio.high)
    return found


def draw(results: list[Results], path: Path) -> None:
    """Draw CPU per request of each workload and peer beside nginx."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pingora", "font.size": 9})
    from matplotlib import pyplot

    found = ratios(results)
    peers = [peer for peer in COLORS if any(peer in values for values in found.values())]
    figure, axes = pyplot.subplots(figsize=(7.2, 0.6 + 0.95 * len(found)))
    height = 0.8 / len(peers)
    for row, workload in enumerate(found):
        for place, peer in enumerate(peers):
            if peer not in found[workload]:
                continue
            median, low, high = found[workload][peer]
            at = row + (place - (len(peers) - 1) / 2) * height
            axes.barh(at, median, height * 0.9, color=COLORS[peer], label=TITLES.get(peer, peer) if row == 0 else None)
            axes.plot([low, high], [at, at], color="black", linewidth=0.8)
            axes.text(max(median, high) + 0.02, at, f"{median:.2f}", va="center", fontsize=7)
    axes.axvline(1.0, color="black", linewidth=0.8, linestyle="dotted")
    axes.set_yticks(range(len(found)), [SHORT.get(name, WORKLOADS[name].title) for name in found])
    axes.invert_yaxis()
    axes.set_xlabel("CPU per request, nginx = 1 (less is better; line: quartiles of the rounds)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(peers), frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Draw; return the exit code."""
    if len(sys.argv) < 3:
        sys.exit("usage: python -m benches.side_by_side.plot RESULT.json… PICTURE.svg")
    *files, picture = sys.argv[1:]
    draw([Results.load(Path(file)) for file in files], Path(picture))
    return 0


if __name__ == "__main__":
    sys.exit(main())
