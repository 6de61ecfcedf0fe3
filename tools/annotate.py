"""Write Cython's annotated source of every compiled module to build/annotate: yellow lines touch Python objects."""

import ast
import os
import shutil
import sys
from pathlib import Path

from Cython.Build import cythonize

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "build" / "annotate"


def directives() -> dict[str, object]:
    """Return DIRECTIVES of setup.py, which cannot be imported: it builds."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DIRECTIVES":
            return ast.literal_eval(node.value)
    raise LookupError("setup.py has no DIRECTIVES")


def main() -> None:
    """Annotate all modules."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    os.chdir(ROOT)
    sources = sorted(str(path) for path in Path("src/pingora_c").rglob("*.pyx"))
    cythonize(sources, annotate=True, force=True, build_dir=str(OUTPUT / "c"), compiler_directives=directives())
    pages = sorted((OUTPUT / "c").rglob("*.html"))
    for page in pages:
        name = ".".join(page.relative_to(OUTPUT / "c").with_suffix("").parts).removeprefix("src.")
        page.rename(OUTPUT / f"{name}.html")
    shutil.rmtree(OUTPUT / "c")
    sys.stdout.write(f"{len(pages)} pages in {OUTPUT.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
