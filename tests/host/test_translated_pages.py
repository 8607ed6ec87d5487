"""Help pages in Japanese and Simplified Chinese: the English page, block by block, in other words."""

from __future__ import annotations

import re
import unicodedata

import pytest
from translations import CODE, DOCS, LANGUAGES, Block, blocks, changed, definitions, formula, marks, pages

PAGES = pages()
STRESSED = re.compile(r"(?<!\*)\*{1,2}([^*]+)\*{1,2}(.?)")
ALIKE = re.compile(r"[A-Za-z]{4,}")
VOCABULARY = "MSD_LoadDemoModel"  # its page lists the words that the model knows, which are English

PANEL = 30
"""Letters of code that fit in a line of the narrowest panel."""

by_language = pytest.mark.parametrize("language", LANGUAGES)


@by_language
def test_every_page_is_there_and_no_other(language: str) -> None:
    assert [node for node in PAGES if node not in pages(language)] == [], f"to translate into {language}"
    assert [node for node in pages(language) if node not in PAGES] == [], "no longer in the English"
    strays = [path for path in DOCS.rglob("*.md") if path.parent != DOCS and path.stem not in LANGUAGES]
    assert strays == [], "the front end reads <NodeId>/<language>.md"


@by_language
def test_no_paragraph_is_left_in_english(language: str) -> None:
    left = [
        (node, cell)
        for node, page in pages(language).items()
        for (kind, cells), (_, english) in zip(blocks(page), blocks(PAGES.get(node, "")), strict=False)
        for cell, text in zip(cells, english, strict=False)
        if node != VOCABULARY and kind != "    " and cell == text and ALIKE.search(re.sub(r"`[^`]+`", "", cell))
    ]
    assert left == []


def unclosed(inside: str, after: str) -> bool:
    """Markdown sees no end of a stress between punctuation and a letter, which has no space before it here."""
    return bool(re.match(r"[^\w\s]", inside[-1]) and re.match(r"\w", after))


def misread(kind: str, english: str, text: str) -> list[str]:
    """What is wrong with one line, cell or paragraph of a page."""
    if kind == "    ":
        return [] if formula(english) == formula(text) else [f"formula {text}"]
    wrong = changed(english, text) + [
        f"{name} of {text}" for name, m in marks(english).items() if m != marks(text)[name]
    ]
    return wrong + [f"stress of {text}" for inside, after in STRESSED.findall(text) if unclosed(inside, after)]


def unlabelled(english: list[Block], page: list[Block], labels: dict[str, str]) -> list[str]:
    """First lines of the list of inputs that do not call a widget what the node does."""
    wrong, header = [], ""
    for (kind, before), (_, cells) in zip(english, page, strict=True):
        if kind != "- ":
            header = before[0]
        elif header == "**Inputs**":
            named, shown = (text.partition("\\ ")[0] for text in (before[0], cells[0]))
            wrong += [name for name in re.findall(r"`(\w+)`", named) if labels[name] not in shown]
    return wrong


def unlike(english: str, page: str, here: dict) -> list[str]:
    """What a page has that the English one has not, and the other way round."""
    theirs, ours = blocks(english), blocks(page)
    if [(kind, len(cells)) for kind, cells in ours] != [(kind, len(cells)) for kind, cells in theirs]:
        return [f"blocks {[kind for kind, _ in ours]} for {[kind for kind, _ in theirs]}"]
    lines = [
        (kind, *pair)
        for (kind, before), (_, cells) in zip(theirs[1:], ours[1:], strict=True)
        for pair in zip(before, cells, strict=True)
    ]
    wrong = [wrong for line in lines for wrong in misread(*line)]
    wrong += [] if ours[0] == ("# ", [here["display_name"]]) else [f"title {ours[0][1]}"]
    return wrong + unlabelled(theirs, ours, {name: part["name"] for name, part in here["inputs"].items()})


def columns(line: str) -> int:
    """Columns that a line of code takes: two a Chinese or Japanese letter, none an accent."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)
    return len(line) + wide - sum(unicodedata.combining(letter) > 0 for letter in line)


def too_wide(page: str) -> list[str]:
    """What the front end's panel, 287 pixels wide, cannot show without a bar: tables, long lines and words of code."""
    lines = [text for kind, cells in blocks(page) for text in cells if kind == "    " and columns(text) > PANEL]
    words = [word for span in CODE.findall(page) for word in span[1:-1].split() if columns(word) > PANEL]
    return lines + words + [line for line in page.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_pages_fit_the_panel(language: str) -> None:
    assert {node: wrong for node, page in pages(language).items() if (wrong := too_wide(page))} == {}


def test_what_does_not_fit_the_panel_is_found() -> None:
    formula = "    gradient = w(σ) · (ε̂(x + σ n; σ) − n)"
    assert too_wide(formula) and not too_wide(formula[:27])
    assert too_wide("| input | meaning |") and too_wide(f"`{'long' * 8}`")
    assert columns("ε̂勾配") == 5


@by_language
@pytest.mark.parametrize("node", PAGES)
def test_page_says_what_the_english_one_says(node: str, language: str) -> None:
    """Headings, lists and formulas; code, links and stress; numbers, symbols and names; the widgets' labels."""
    assert node in pages(language), "to translate"
    assert unlike(PAGES[node], pages(language)[node], definitions(language)[node]) == []


@by_language
def test_a_page_that_says_something_else_is_found(language: str) -> None:
    node = "MSD_SDSStep"
    sound, here = pages(language)[node], definitions(language)[node]
    planted = {
        "a row less": sound.replace(next(line for line in sound.splitlines() if "`samples`" in line) + "\n", ""),
        "a code span": sound.replace("`sigma`", "`sigmas`"),
        "a formula": sound.replace("(x + σ n; σ) − n", "(x + σ n; σ) + n"),
        "a year": sound.replace("2022", "2023"),
        "a label": sound.replace(here["inputs"]["samples"]["name"] + " `", "`"),
        "a title": sound.replace("# SDS ", "# SDI "),
    }
    found = {what: bool(unlike(PAGES[node], page, here)) for what, page in planted.items()}
    assert found == dict.fromkeys(planted, True) and sound not in planted.values()
