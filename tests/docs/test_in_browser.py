"""The documentation as a site: it is built without a warning, no link is broken, and it can be read on a phone."""

import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from browser import CHROMIUM, DRIVER, PHONE, phone

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None,
    reason="mkdocs-material is not installed: tools/setup.sh docs",
)

# Elements that stick out of the screen, but for those in a box of their own that scrolls, such as wide tables.
STICK_OUT = """
const wide = [];
for (const one of document.querySelectorAll("article *")) {
    let inside = one;
    while (inside && getComputedStyle(inside).overflowX === "visible") inside = inside.parentElement;
    if ((!inside || inside === document.documentElement || inside === document.body)
            && one.getBoundingClientRect().right > 391) wide.push(one.outerHTML.slice(0, 80));
}
return wide;
"""


class Page(HTMLParser):
    """The links of a page, and the places that links may name."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.links = []
        self.anchors = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [given[name] for name in ("href", "src") if given.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return directory


def pages_of(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_no_link_is_broken(site):
    pages = pages_of(site)
    broken = []
    for page in pages.values():
        for link in page.links:
            target, anchor = urldefrag(link)
            if link.startswith(("https://", "mailto:", "data:")):
                continue
            path = (page.path.parent / unquote(target)).resolve() if target else page.path
            if not path.exists() or (path in pages and unquote(anchor) not in pages[path].anchors):
                broken.append(f"{page.path.name}: {link}")
    assert len(pages) > 20
    assert broken == []


def test_nothing_is_fetched_from_other_hosts(site):
    for page in pages_of(site).values():
        assert [link for link in page.links if link.startswith("http:")] == []
        text = page.path.read_text()
        assert 'src="http' not in text
        assert 'rel="stylesheet" href="http' not in text


@pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed: tools/setup.sh browser"
)
def test_each_page_can_be_read_on_a_phone(site):
    with phone() as browser:
        for path in pages_of(site):
            browser.open(path.as_uri())
            name = path.relative_to(site)
            assert browser.run("return document.querySelector('article h1').offsetHeight") > 0, name
            assert browser.run("return document.documentElement.scrollWidth") <= PHONE["width"], name
            assert browser.run(STICK_OUT) == [], name
            size = browser.run("return getComputedStyle(document.querySelector('article p')).fontSize")
            assert float(size.removesuffix("px")) >= 14, name
            # From a file there is no worker for the search; it is there when the site is served.
            assert [told for told in browser.complaints() if "search" not in told] == [], name
