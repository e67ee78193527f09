"""One self-contained HTML file: headings, text, tables, pictures (embedded)."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

from ..files import write_whole

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 15%, transparent) }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 72rem; margin: 3rem auto; padding: 0 1.2rem }
h1 { font-size: 2rem; line-height: 1.2; margin-bottom: .3rem }
h2 { margin-top: 2.6rem }
.quiet { opacity: .7 }
figure { margin: 0 } figcaption { font-size: .85rem; opacity: .8; margin: .3rem 0 1rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .5rem }
img { width: 100%; border-radius: .4rem; display: block }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(27rem, 100%), 1fr)); gap: 1rem }
.across { grid-template-columns: 1fr }
.plots img { width: auto; max-width: 100% }
.wide { overflow-x: auto; font-size: .9rem; margin-bottom: 1rem }
.wide td { white-space: nowrap }
.wide .long { white-space: normal }
.rows th { font-weight: normal; white-space: nowrap; border: 0 }
.rows td { padding: 1px; border: 0; min-width: 3.5rem }
.rows img { border-radius: 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .45rem; border-bottom: 1px solid var(--line) }
.own { background: color-mix(in srgb, #d62728 10%, transparent) } .own td:first-child { font-weight: 600 }
code { background: var(--line); padding: .1rem .35rem; border-radius: .25rem }
"""


class Page:
    """Collects blocks; ``save`` writes the page at one stroke."""

    def __init__(self, title: str, lead: str):
        self.title = title
        self.blocks = [f'<h1>{escape(title)}</h1><p class="quiet">{escape(lead)}</p>']

    def heading(self, text: str) -> None:
        self.blocks.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        self.blocks.append(f"<p>{escape(text)}</p>")

    def pictures(self, images: list[Image.Image], caption: str) -> None:
        """A row of pictures under one caption."""
        cells = "".join(f'<img alt="{escape(caption)}" src="{_embed(image)}">' for image in images)
        self.blocks.append(
            "<figure><div "
            f'class="grid">{cells}</div><figcaption><code>{escape(caption)}</code></figcaption></figure>'
        )

    def rows(self, rows: dict[str, list[Image.Image]]) -> None:
        """As many pictures in every row, each row under its name at the left."""
        lines = "".join(
            f"<tr><th>{escape(name)}</th>"
            + "".join(f'<td><img alt="{escape(name)}" src="{_embed(i)}"></td>' for i in images)
            + "</tr>"
            for name, images in rows.items()
        )
        self.blocks.append(f'<div class="wide"><table class="rows">{lines}</table></div>')

    def plots(self, images: dict[str, Image.Image], across: bool = False) -> None:
        """Pictures at their own size under their captions, as many in a row as there is room for; one a row
        where they go ``across``.
        """
        cells = "".join(
            f'<figure><img alt="{escape(c)}" src="{_embed(i)}"><figcaption>{escape(c)}</figcaption></figure>'
            for c, i in images.items()
        )
        self.blocks.append(f'<div class="plots{" across" if across else ""}">{cells}</div>')

    def table(self, head: list[str], rows: list[list[str]], own: str = "") -> None:
        """The row that begins with ``own`` stands out."""

        def line(cells: list[str], tag: str) -> str:
            return (
                f"<tr{' class=own' if own and cells[0] == own else ''}>"
                + "".join(f"<{tag}{_kind(str(cell))}>{escape(str(cell))}</{tag}>" for cell in cells)
                + "</tr>"
            )

        lines = line(head, "th") + "".join(line(row, "td") for row in rows)
        self.blocks.append(f'<div class="wide"><table>{lines}</table></div>')

    def save(self, path: str | Path) -> Path:
        html = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
            'content="width=device-width">'
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style>"
            f"<body>{''.join(self.blocks)}</body></html>"
        )
        return write_whole(Path(path).expanduser(), html.encode(errors="backslashreplace"))


def _kind(text: str) -> str:
    """Figures stay on one line, sentences do not."""
    return ' class="long"' if len(text) > 60 else ""


def _embed(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
