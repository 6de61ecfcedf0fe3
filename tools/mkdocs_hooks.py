"""Hooks of mkdocs: README.md becomes the first page, and links out of docs/ lead somewhere in the site.

Programs and configurations of examples/ are copied beside the pages. Markdown and directories elsewhere in the
repository are no pages: a link to one becomes its text and the path.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
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
    """Add the first page and the examples."""
    text = LINK.sub(lambda match: site_link(match, ROOT), (ROOT / "README.md").read_text())
    files.append(File.generated(config, "index.md", content=text))
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix in (".py", ".toml"):
            files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page that lead out of docs/."""
    return re.sub(
        r"\[([^\]]*)\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)", lambda match: site_link(match, ROOT / "docs"), markdown
    )
