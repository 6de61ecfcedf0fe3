"""The check of links in Markdown."""

import docs


def test_links_that_lead_nowhere_are_named(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "phases.md").write_text("# The phases of `ProxyHttp`\n\n[up](../README.md#two-commands)\n")
    (tmp_path / "README.md").write_text(
        "# Two commands\n\n"
        "[phases](docs/phases.md), [heading](docs/phases.md#the-phases-of-proxyhttp), [here](#two-commands),\n"
        "[site](https://example.com/x#y), [gone](docs/gone.md)\n"
        "[no heading](docs/phases.md#nothing) [nor here](#nothing)\n"
        "```\n# Not a heading\n[not a link](nowhere.md)\n```\n"
    )
    assert list(docs.broken_links(tmp_path)) == [
        "README.md:4: docs/gone.md does not exist",
        "README.md:5: docs/phases.md has no heading #nothing",
        "README.md:5: README.md has no heading #nothing",
    ]


def test_headings_inside_code_are_no_anchors():
    assert docs.anchors("# One two\n```\n# Three\n```\n## Four, five!\n") == {"one-two", "four-five"}
