"""One content as Markdown and as one HTML page."""

import re

from mamlcli.studies.claims.markup import Grid, Picture, escape, heading, to_html

WIDE = Picture("c1.png", b"\x89PNG not really", "scores of <all>")
BOTH = Picture("forest.png", b"wide", "every prediction", narrow=b"narrow")


def test_plain_text_that_looks_like_markup_is_shown_as_it_is():
    text = "a *b* _c_ `d` <e> [f](g) h_i D* \\ x|y"
    page = to_html(escape(text), "t", [])
    assert "<p>a *b* _c_ `d` &lt;e&gt; [f](g) h_i D* \\ x|y</p>" in page


def test_table_shows_bars_and_tags_as_text():
    page = to_html(Grid(("a|b",), (("<script>",),)).to_markdown(), "t", [])
    assert "<th>a|b</th>" in page
    assert "<td>&lt;script&gt;</td>" in page


def test_page_is_one_file_that_fits_a_phone():
    page = to_html(f"{heading('T', 1)}\n\n{WIDE.to_markdown()}\n\n{BOTH.to_markdown()}", "<T>", [WIDE, BOTH])
    assert not re.search(r"""(src|href|srcset)=["'](?!data:)""", page)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "<title>&lt;T&gt;</title>" in page
    assert page.count("<figcaption>") == 2
    assert page.count("<p>") == page.count("</p>")


def test_narrow_layout_is_for_narrow_pages_alone():
    page = to_html(f"{WIDE.to_markdown()}\n\n{BOTH.to_markdown()}", "t", [WIDE, BOTH])
    assert page.count("<source media=") == 1
    assert page.count("class=wide") == 1
