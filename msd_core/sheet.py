"""A contact sheet: a column a title, a row a caption, and under each picture what is said of it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

PICTURE, MARGIN, LINE, LETTERS = 144, 10, 15, 26
RIGHT, WRONG, INK = "#1a7f37", "#b42318", "#1f2328"


@dataclass(frozen=True)
class Entry:
    """A picture, the lines under it, and whether it is right; None where nobody has judged."""

    picture: Image.Image
    lines: Sequence[str]
    right: bool | None = None

    @property
    def colour(self) -> str:
        """Of the frame and of the lines."""
        return {True: RIGHT, False: WRONG, None: INK}[self.right]


def fitting(picture: Image.Image) -> Image.Image:
    """``picture`` as large as the sheet has room for, on white where it is no square."""
    return ImageOps.pad(picture, (PICTURE, PICTURE), Image.Resampling.LANCZOS, color="white")


def contact_sheet(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[Entry]]]) -> Image.Image:
    """The sheet of ``rows``, each a caption and one entry a title."""
    width = MARGIN + len(titles) * (PICTURE + MARGIN)
    height = MARGIN + 2 * LINE + len(rows) * (PICTURE + 5 * LINE)
    sheet, font, small = (
        Image.new("RGB", (width, height), "white"),
        ImageFont.load_default(13),
        ImageFont.load_default(11),
    )
    draw = ImageDraw.Draw(sheet)
    for j, title in enumerate(titles):
        draw.text((MARGIN + j * (PICTURE + MARGIN) + PICTURE / 2, MARGIN), title, INK, font, anchor="ma")
    for i, (caption, entries) in enumerate(rows):
        y = MARGIN + 2 * LINE + i * (PICTURE + 5 * LINE)
        draw.text((MARGIN, y), caption, INK, font)
        for j, entry in enumerate(entries):
            x = MARGIN + j * (PICTURE + MARGIN)
            sheet.paste(fitting(entry.picture), (x, y + LINE + 3))
            draw.rectangle(
                (x - 2, y + LINE + 1, x + PICTURE + 1, y + LINE + PICTURE + 4), outline=entry.colour, width=2
            )
            text = "\n".join(part for line in entry.lines for part in textwrap.wrap(line, LETTERS) or [""])
            draw.text((x, y + LINE + PICTURE + 6), text, entry.colour, small)
    return sheet
