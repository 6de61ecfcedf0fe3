"""Error pages as a Server is given them: read and checked once, before anything is served."""

import os
from collections.abc import Mapping
from pathlib import Path

from pingora_c.proxy.response import Response

ErrorPage = Response | bytes | str | os.PathLike[str]


def read_error_pages(pages: Mapping[int, ErrorPage]) -> dict[int, Response]:
    """Make the answer for each status. Raises ValueError that names every status or page that will not do."""
    answers, complaints = {}, []
    for status, page in pages.items():
        try:
            if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
                raise ValueError("expected a status from 400 to 599")
            answers[status] = page if isinstance(page, Response) else read_page(status, page)
        except (OSError, ValueError) as error:
            complaints.append(f"{status!r}: {error}")
    if complaints:
        raise ValueError(f"error_pages: {'; '.join(complaints)}")
    return answers


def read_page(status: int, page: bytes | str | os.PathLike[str]) -> Response:
    """Make an answer of HTML, or of a file whose name tells its type. Raises OSError, ValueError."""
    if isinstance(page, bytes):
        return Response(status, {"content-type": "text/html; charset=utf-8"}, page)
    if not isinstance(page, (str, os.PathLike)):
        raise ValueError(f"expected a Response, bytes or the path of a file, got {type(page).__name__}")
    import mimetypes  # only here: most programs have no pages

    kind = mimetypes.guess_type(page)[0] or "text/html"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Response(status, {"content-type": kind}, Path(page).read_bytes())
