"""mkdocs.yml names every document once, and fetches nothing from other hosts."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = (ROOT / "mkdocs.yml").read_text()


def test_every_document_is_in_the_navigation_once():
    listed = re.findall(r"^ +- .*: (\S+\.md)\b", SITE.partition("\nnav:\n")[2], re.MULTILINE)
    assert sorted(listed) == sorted(["index.md", *(path.name for path in (ROOT / "docs").glob("*.md"))])


def test_fonts_and_scripts_are_those_of_the_site():
    assert re.search(r"^  font: false\b", SITE, re.MULTILINE)
    assert "://" not in SITE
