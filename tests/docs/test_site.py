"""mkdocs.yml names every document once, and fetches nothing from other hosts; the reference has every public name."""

import re
from pathlib import Path

import reference

import pingora

ROOT = Path(__file__).parents[2]
SITE = (ROOT / "mkdocs.yml").read_text()


def test_every_document_is_in_the_navigation_once():
    listed = re.findall(r"^ +- .*: (\S+\.md)\b", SITE.partition("\nnav:\n")[2], re.MULTILINE)
    assert sorted(listed) == sorted(
        ["index.md", *(path.name for path in (ROOT / "docs").glob("*.md")), *reference.GROUPS]
    )


def test_fonts_and_scripts_are_those_of_the_site():
    assert re.search(r"^  font: false\b", SITE, re.MULTILINE)
    assert "://" not in SITE


def test_every_public_name_is_in_the_reference_once():
    names = [place.partition(":")[2] for place in reference.places()]
    assert sorted(set(names)) == sorted(names)
    assert sorted(place.partition(":")[2] for place in reference.places() if place.startswith("pingora:")) == sorted(
        pingora.__all__
    )


def test_every_public_name_and_attribute_is_described():
    assert reference.undescribed() == []


def test_signatures_and_links_are_those_of_the_sources():
    pages = reference.pages()
    assert "request_filter(session: Session, ctx: Ctx) -> MaybeAsync[Response | None]\n" in pages["api/hooks.md"]
    assert "get(name: str | bytes, default: str) -> str\n" in pages["api/hooks.md"]
    assert "    connect_timeout: float | None = None,\n" in pages["api/upstreams.md"]
    assert "| `attempts` | `int` | `3` | tries of one request, the first included |" in pages["api/upstreams.md"]
    assert "`int \\| None` | `None` | of a request body: 413 |" in pages["api/serving.md"]
    assert "[`LoadBalancer`](upstreams.md#loadbalancer)" in pages["api/hooks.md"]
