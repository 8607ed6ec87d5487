"""Japanese and Simplified Chinese beside the English: complete, translated, the same numbers and names, and up to date.

`translated.json` holds a digest of the English text that each translation was made from, so that an English text which
has changed, or is new, fails here until its translation has been looked at. Then

    MSD_TRANSLATED="zh/MSD_Edit.inputs.steps ja/MSD_Edit*" pytest tests/host/test_translations.py

records the entries that match one of these patterns, as they are printed by the failure, and brings the files into the
order of the English. Nothing is recorded that is not named.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from comfy_api.latest import io
from msd_pack.nodes import MeanShiftExtension
from translations import (
    DOCS,
    LANGUAGES,
    ROOT,
    blocks,
    definitions,
    digest,
    entries,
    facts,
    formula,
    marks,
    pages,
    texts,
)

RECORD = Path(__file__).with_name("translated.json")
SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in asyncio.run(MeanShiftExtension().get_node_list())}
ENGLISH, PAGES = definitions("en"), pages()
SAME = {"cfg", "vae", "VAE", "clip", "CLIP", "svg", "fps", "rho", "eta", "Sigmas", "Latent"}  # as the host has them
OWN_WORDS = {"ComfyUI", "KSampler"}  # names that a translation may use where the English says "the host" or "stock"
KANA, HAN = re.compile(r"[぀-ヿ]"), re.compile(r"[㐀-鿿]")
STRESSED = re.compile(r"(?<!\*)\*{1,2}([^*]+)\*{1,2}(.?)")
ALIKE = re.compile(r"[A-Za-z]{4,}")
VOCABULARY = "MSD_LoadDemoModel"  # its page lists the words that the model knows, which are English

by_language = pytest.mark.parametrize("language", LANGUAGES)


def in_order(tree: dict, like: dict) -> dict:
    """The same texts in the order of ``like``; what it does not have comes last."""
    keys = [key for key in like if key in tree] + [key for key in tree if key not in like]
    return {key: in_order(tree[key], like.get(key, {})) if isinstance(tree[key], dict) else tree[key] for key in keys}


def record(patterns: list[str]) -> None:
    """Write the digests of the entries that are named, and drop those that are no more."""
    digests, english = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}, entries()
    kept: dict[str, str] = {}
    for language in LANGUAGES:
        path = ROOT / "locales" / language / "nodeDefs.json"
        ordered = in_order(definitions(language), ENGLISH)
        path.write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name in entries(language).keys() & english.keys():
            key = f"{language}/{name}"
            if any(fnmatch(key, pattern) for pattern in patterns):
                kept[key] = digest(english[name])
            elif key in digests:
                kept[key] = digests[key]
    RECORD.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")


def to_translate(digests: dict[str, str], english: dict[str, str], language: str, there: set[str]) -> list[str]:
    """Entries without a translation, and those whose English is no longer what the translation was made from."""
    keys = {name: f"{language}/{name}" for name in english}
    return [key for name, key in keys.items() if name not in there or digests.get(key) != digest(english[name])]


@by_language
def test_translations_are_up_to_date(language: str) -> None:
    if os.environ.get("MSD_TRANSLATED"):
        record(os.environ["MSD_TRANSLATED"].split())
    digests, english = json.loads(RECORD.read_text(encoding="utf-8")), entries()
    there = set(entries(language))
    assert to_translate(digests, english, language, there) == [], "to translate, or to look at again"
    name = next(iter(english))
    planted = english | {name: english[name] + " More.", "MSD_New.inputs.new": "new"}
    assert to_translate(digests, planted, language, there) == [f"{language}/{name}", f"{language}/MSD_New.inputs.new"]


@by_language
def test_every_text_of_the_english_is_there_and_no_other(language: str) -> None:
    english, here = [key for key, _ in texts(ENGLISH)], [key for key, _ in texts(definitions(language))]
    assert [key for key in english if key not in here] == [], "to translate"
    assert [key for key in here if key not in english] == [], "no longer in the English"
    assert here == english, "another order: MSD_TRANSLATED=none sorts them"
    assert set(pages(language)) == set(PAGES), "help pages"
    strays = [path for path in DOCS.rglob("*.md") if path.parent != DOCS and path.stem not in LANGUAGES]
    assert strays == [], "the front end reads <NodeId>/<language>.md"


def untranslated(text: str, language: str) -> bool:
    """Latin letters only, or what is the other language: Chinese has no kana, and Japanese only words without them."""
    kana, han = KANA.findall(text), HAN.findall(text)
    alien = kana if language == "zh" else len(han) > 6 and not kana
    return text not in SAME and (bool(alien) or not kana + han)


@by_language
def test_nothing_is_left_in_english(language: str) -> None:
    here = dict(texts(definitions(language)))
    assert [key for key, text in here.items() if untranslated(text, language)] == []
    assert untranslated("Pixels.", language) and untranslated("steps", language)
    assert untranslated({"ja": "用于噪声，即起始状态的种子。", "zh": "ノイズのシード。"}[language], language)
    left = [
        (node, cell)
        for node, page in pages(language).items()
        for (kind, cells), (_, english) in zip(blocks(page), blocks(PAGES[node]), strict=True)
        for cell, text in zip(cells, english, strict=True)
        if node != VOCABULARY and kind != "    " and cell == text and ALIKE.search(re.sub(r"`[^`]+`", "", cell))
    ]
    assert left == []


def changed(english: str, text: str) -> list[str]:
    """Numbers, symbols and names that one of the two has and the other has not."""
    before, after = facts(english), facts(text)
    after["names"] -= OWN_WORDS - before["names"]
    return [f"{kind}: {before[kind]} became {after[kind]}" for kind in before if before[kind] != after[kind]]


@by_language
def test_tooltips_keep_numbers_symbols_and_names(language: str) -> None:
    here = dict(texts(definitions(language)))
    sentences = [(key, text) for key, text in texts(ENGLISH) if not key.endswith(".name")]
    assert {key: wrong for key, text in sentences if (wrong := changed(text, here[key]))} == {}
    sound, english = here["MSD_SDSStep.inputs.weighting.tooltip"], ENGLISH["MSD_SDSStep"]["inputs"]["weighting"]
    assert changed(english["tooltip"], sound.replace("1", "2")) and changed(english["tooltip"], sound.replace("√", ""))


def options(entry: io.Input) -> list[str]:
    return [option for option in getattr(entry, "options", None) or [] if isinstance(option, str)]


def lost(names: list[str], english: str, text: str) -> list[str]:
    """Options that the English tooltip explains and the translation does not name."""

    def has(sentence: str, name: str) -> bool:
        return bool(re.search(rf"(?<![A-Za-z0-9_-]){re.escape(name)}(?![A-Za-z0-9_-])", sentence, re.IGNORECASE))

    return [name for name in names if len(name) > 1 and has(english, name) and not has(text, name)]


@by_language
def test_options_keep_their_names(language: str) -> None:
    here = definitions(language)
    wrong = {
        f"{node}.inputs.{entry.id}": missing
        for node, tree in ENGLISH.items()
        for entry in SCHEMAS[node].inputs
        if (tooltip := tree["inputs"][entry.id].get("tooltip"))
        and (missing := lost(options(entry), tooltip, here[node]["inputs"][entry.id]["tooltip"]))
    }
    assert wrong == {}
    assert lost(["exact", "one-step"], "exact: draws; one-step: one", "exact：抽样；单步：一次") == ["one-step"]


@by_language
def test_nodes_are_called_by_their_names_in_other_texts(language: str) -> None:
    """A node that the English calls by its display name is called by its translated one."""
    here, written = definitions(language), pages(language)
    pairs = [(key, text, dict(texts(here))[key]) for key, text in texts(ENGLISH)]
    pairs += [(f"{node}.md", page.replace("\n", " "), written[node]) for node, page in PAGES.items()]
    wrong = []
    for key, english, text in pairs:
        for node in sorted(ENGLISH, key=lambda node: -len(ENGLISH[node]["display_name"])):
            name, translated = ENGLISH[node]["display_name"], here[node]["display_name"]
            if " " in name and name in english:
                english = english.replace(name, "")
                wrong += [] if translated in text else [(key, name, translated)]
    assert wrong == []


def unclosed(inside: str, after: str) -> bool:
    """Markdown sees no end of a stress between punctuation and a letter, which has no space before it here."""
    return bool(re.match(r"[^\w\s]", inside[-1]) and re.match(r"\w", after))


@by_language
@pytest.mark.parametrize("node", PAGES)
def test_page_has_the_structure_of_the_english_one(node: str, language: str) -> None:
    """Headings, tables, lists and formulas; code, links and stress; numbers, symbols and names; the widgets' labels."""
    here = definitions(language)[node]
    english, translated = blocks(PAGES[node]), blocks(pages(language)[node])
    assert [(kind, len(cells)) for kind, cells in translated] == [(kind, len(cells)) for kind, cells in english]
    assert translated[0] == ("# ", [here["display_name"]])
    labels, header = {name: part["name"] for name, part in here["inputs"].items()}, ""
    for (kind, cells), (_, before) in zip(translated[1:], english[1:], strict=True):
        for cell, text in zip(cells, before, strict=True):
            if kind == "    ":
                assert formula(cell) == formula(text)
                continue
            assert marks(cell) == marks(text) and changed(text, cell) == [], cell
            assert not any(unclosed(inside, after) for inside, after in STRESSED.findall(cell)), cell
        header = before[0] if kind == "|" and not header else header * (kind == "|")
        if header == "input" and before[0] != "input":
            assert all(labels[name] in cells[0] for name in re.findall(r"`(\w+)`", before[0])), cells[0]


def test_no_text_is_a_message_format() -> None:
    """The front end compiles descriptions, and once tooltips, as vue-i18n messages: {name} vanishes, | cuts, @ links.

    Version 1.49 shows tooltips as they are, 1.35 does not. Only a text without these characters reads the same in all.
    """
    syntax = re.compile(r"[{}|@]")
    found = [
        (name, key) for name in ("en", *LANGUAGES) for key, text in texts(definitions(name)) if syntax.search(text)
    ]
    assert found == []


@by_language
def test_categories_have_names(language: str) -> None:
    names = json.loads((ROOT / "locales" / language / "main.json").read_text(encoding="utf-8"))["nodeCategories"]
    assert set(names) == {part for schema in SCHEMAS.values() for part in schema.category.split("/")}
    assert [name for name in names.values() if untranslated(name, language)] == []
