"""Check that every relative link in the repository's Markdown leads to a file, and every anchor to a heading."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SKIPPED = {".git", ".venv", "build", "dist", ".pytest_cache"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors that the headings of a Markdown text have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(root: Path) -> Iterator[str]:
    """Yield a line for every relative link that leads nowhere."""
    for path in sorted(root.rglob("*.md")):
        if SKIPPED & set(path.relative_to(root).parts):
            continue
        text = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), path.read_text())
        for number, line in enumerate(text.splitlines(), 1):
            for link in LINK.findall(line):
                target, _, anchor = link.partition("#")
                if re.match(r"[a-z]+:", link):
                    continue
                file = path.parent / target if target else path
                if not file.exists():
                    yield f"{path.relative_to(root)}:{number}: {target} does not exist"
                elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                    yield f"{path.relative_to(root)}:{number}: {target or path.name} has no heading #{anchor}"


def main() -> int:
    """Check the repository; return the exit code."""
    problems = list(broken_links(ROOT))
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
