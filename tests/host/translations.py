"""The pack's words by language: `locales/<language>/nodeDefs.json` and the help pages, cut into comparable parts.

ComfyUI's front end shows `locales/<language>/` over the schemas, and reads `web/docs/<NodeId>/<language>.md` before
`web/docs/<NodeId>.md`, which is the English page and what every other language falls back to.

An *entry* is what is translated, and looked at, in one piece: a node's own texts (`MSD_Edit`), one of its inputs or
outputs (`MSD_Edit.inputs.steps`), or its page (`MSD_Edit.md`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
LANGUAGES = ("ja", "zh")
Block = tuple[str, list[str]]

NUMBER = re.compile(r"\d+(?:\.\d+)?")
WORD = re.compile(r"(?<![A-Za-z0-9_%])%?[A-Za-z][A-Za-z0-9_]*%?")
CODE = re.compile(r"`[^`]+`")
LINK = re.compile(r"\]\([^)]*\)")
STRESS = re.compile(r"(?<!\*)\*{1,2}(?!\*)")
GLOSS = re.compile(r"（[A-Z][A-Za-z0-9 ]*(?=[）、，])")  # a host's node by its English name, in brackets
OWN_WORDS = {"ComfyUI", "KSampler"}  # names that a translation may use where the English says "the host" or "stock"
SYMBOLS = "λσεᾱκψχ√×±→←−≤≥²°·"


def definitions(language: str) -> dict:
    """`nodeDefs.json` of a language, empty where there is none yet."""
    path = ROOT / "locales" / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def pages(language: str = "en") -> dict[str, str]:
    """Help pages by node."""
    if language == "en":
        return {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
    return {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob(f"*/{language}.md"))}


def texts(tree: dict, path: str = "") -> Iterator[tuple[str, str]]:
    """All texts under `MSD_Edit.inputs.steps.tooltip` and the like, in order."""
    for key, value in tree.items():
        inner = f"{path}.{key}" if path else key
        yield from texts(value, inner) if isinstance(value, dict) else [(inner, value)]


def entries(language: str = "en") -> dict[str, str]:
    """What is translated in one piece, by name."""
    found: dict[str, str] = {}
    for node, tree in definitions(language).items():
        parts = {f"{node}.{side}.{name}": part for side in ("inputs", "outputs") for name, part in tree[side].items()}
        own = {node: {key: value for key, value in tree.items() if isinstance(value, str)}}
        found |= {name: json.dumps(part, ensure_ascii=False) for name, part in (own | parts).items()}
    return found | {f"{node}.md": page for node, page in pages(language).items()}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def blocks(page: str) -> list[Block]:
    """A page as headings (`#`, `##`), paragraphs, list items, code lines and table rows, each with its cells."""
    found: list[Block] = []
    for line in page.splitlines():
        kind = next((kind for kind in ("    ", "|", "- ", "## ", "# ") if line.startswith(kind)), "text")
        if kind == "|":
            found.append((kind, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]))
        elif kind == "text" and found and found[-1][0] in ("text", "- ") and line.strip():
            found[-1][1][0] += " " + line.strip()  # the English pages wrap their lines
        else:
            found.append((kind if line.strip() else "", [line.removeprefix(kind).strip()]))
    return [block for block in found if block[0]]


def facts(text: str) -> dict[str, Counter[str] | set[str]]:
    """What a translation must not change: numbers, symbols, and names with a capital inside, a digit, _ or %.

    A plural's s is not counted, nor what stands in brackets as the English name of a host's node.
    """
    words = {re.sub(r"(?<=[A-Zt])s$", "", word) for word in WORD.findall(text)}
    technical = {word for word in words if re.search(r"[_%0-9]|.[A-Z]", word)}
    numbers = Counter(NUMBER.findall(GLOSS.sub("", text)))
    return {"numbers": numbers, "symbols": {c for c in text if c in SYMBOLS}, "names": technical}


def changed(english: str, text: str) -> list[str]:
    """Numbers, symbols and names that one of the two has and the other has not."""
    before, after = facts(english), facts(text)
    after["names"] -= OWN_WORDS - before["names"]
    return [f"{kind}: {before[kind]} became {after[kind]}" for kind in before if before[kind] != after[kind]]


def marks(text: str) -> dict[str, Counter[str]]:
    """Code spans, links and stress of a text."""
    return {
        "code": Counter(CODE.findall(text)),
        "links": Counter(LINK.findall(text)),
        "stress": Counter(STRESS.findall(CODE.sub("", text))),
    }


def formula(line: str) -> Counter[str]:
    """The symbols of a formula, without its words, which are translated."""
    return Counter(re.sub(r"[A-Za-z]{2,}|[぀-ヿ㐀-鿿]|\s", "", line))
