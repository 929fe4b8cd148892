"""Markup of a reproduction's report: plain text, tables and pictures as Markdown, and one HTML page made from it."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True)
class Grid:
    """A grid is a table: a header and rows of plain text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        escaped = [[escape(cell).replace("|", "\\|") for cell in line] for line in (self.header, *self.rows)]
        lines = [escaped[0], ["---"] * len(self.header), *escaped[1:]]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Picture:
    """A picture is a figure of the report, in bytes: as PNG for report.html, and as SVG for print.

    Attributes:
        name: of its PNG file; the SVG file has the same name.
        png: for the page.
        caption: what it shows, plain text.
        svg: for print.
        narrow: PNG of the same in a narrow layout, for a phone; empty where the page lets the wide one be scrolled.
    """

    name: str
    png: bytes
    caption: str
    svg: bytes = b""
    narrow: bytes = b""

    def to_markdown(self) -> str:
        """Return the figure in Markdown."""
        return f"![{escape(self.caption)}]({self.name})"


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin-top: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.85rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
th { vertical-align: bottom; } td { min-width: 3rem; }
code, pre { font-size: 0.85rem; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: #f6f6f6; padding: 0.6rem; }
figure { margin: 1rem 0; } figure div { overflow-x: auto; } figcaption { color: #555; font-size: 0.85rem; }
img { width: 100%; display: block; }
@media (max-width: 640px) {
  body { margin: 1rem auto; } h1 { font-size: 1.4rem; } th, td { padding: 0.3rem 0.4rem; }
  img.wide { width: 680px; }
}
"""


# What would be markup in a text: a star, a tag, a link, and underscores that do not stand inside a word.
_MARKUP = re.compile(r"[\\`*\[\]]|<(?=[\w/!?])|(?<!\w)_|_(?!\w)")


def escape(text: str) -> str:
    """Return a plain text as Markdown that shows it as it is."""
    return _MARKUP.sub(lambda found: f"\\{found.group()}", text)


def heading(text: str, level: int) -> str:
    """Return a heading in Markdown; level 1 is the report's title."""
    return f"{'#' * level} {escape(text)}"


def to_html(markdown: str, title: str, pictures: Iterable[Picture]) -> str:
    """Return a report as one HTML file.

    Args:
        markdown: the report; HTML in it is shown as text.
        title: of the page.
        pictures: the figures that it names, each alone in a paragraph; they become part of the file.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    figures = {picture.name: _figure(picture) for picture in pictures}
    tokens: list[Token] = []
    for token in parser.parse(markdown):
        image = token.children[0] if token.children and len(token.children) == 1 else None
        if image is not None and image.type == "image":
            tokens[-1] = Token("html_block", "", 0, content=figures[str(image.attrs["src"])])
        elif not (token.type == "paragraph_close" and tokens[-1].type == "html_block"):
            tokens.append(token)
    body = parser.renderer.render(tokens, parser.options, {})
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _figure(picture: Picture) -> str:
    """Return a figure of the page; on a phone the narrow layout, or the wide one in a box that scrolls."""
    caption = html.escape(picture.caption)
    image = f'<img alt="{caption}" src="{_data(picture.png)}"{"" if picture.narrow else " class=wide"}>'
    if picture.narrow:
        image = f'<picture><source media="(max-width: 640px)" srcset="{_data(picture.narrow)}">{image}</picture>'
    return f"<figure><div>{image}</div><figcaption>{caption}</figcaption></figure>\n"


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
