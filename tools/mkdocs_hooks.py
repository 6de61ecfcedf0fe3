"""Hooks of mkdocs: README.md becomes the first page, the reference is written, links out of docs/ lead into the site.

Programs and configurations of examples/ are copied beside the pages. Markdown and directories elsewhere in the
repository are no pages: a link to one becomes its text and the path.
"""

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import reference  # noqa: E402

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def site_link(match: re.Match[str], directory: Path) -> str:
    """Return a link of a document in `directory` as the site has it."""
    text, target, anchor = match[1], match[2], match[3] or ""
    if re.match(r"[a-z]+:", target):
        return match[0]
    path = (directory / target).resolve().relative_to(ROOT)
    if path.parts[0] == "docs":
        return f"[{text}]({path.relative_to('docs')}{anchor})"
    if path.parts[0] == "examples" and path.suffix:
        return f"[{text}]({path})"
    return f"{text} (`{path}` in the repository)"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the first page, the reference and the examples."""
    text = LINK.sub(lambda match: site_link(match, ROOT), (ROOT / "README.md").read_text())
    files.append(File.generated(config, "index.md", content=text))
    for place, page in reference.pages().items():
        files.append(File.generated(config, place, content=page))
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix in (".py", ".toml"):
            files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page that lead out of docs/."""
    if page.file.src_uri in reference.GROUPS:
        return markdown
    return re.sub(
        r"\[([^\]]*)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)", lambda match: site_link(match, ROOT / "docs"), markdown
    )
