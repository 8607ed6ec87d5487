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
from translations import LANGUAGES, ROOT, changed, definitions, digest, entries, pages, texts

RECORD = Path(__file__).with_name("translated.json")
SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in asyncio.run(MeanShiftExtension().get_node_list())}
ENGLISH, PAGES = definitions("en"), pages()
SAME = {"cfg", "vae", "VAE", "clip", "CLIP", "svg", "fps", "rho", "eta", "Sigmas", "Latent"}  # as the host has them
KANA, HAN = re.compile(r"[぀-ヿ]"), re.compile(r"[㐀-鿿]")

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
    left = to_translate(digests, english, language, there)
    assert not left, "\n".join(["to translate, or to look at again:", *left])
    name = next(iter(english))
    planted = english | {name: english[name] + " More.", "MSD_New.inputs.new": "new"}
    assert to_translate(digests, planted, language, there) == [f"{language}/{name}", f"{language}/MSD_New.inputs.new"]


@by_language
def test_every_text_of_the_english_is_there_and_no_other(language: str) -> None:
    english, here = [key for key, _ in texts(ENGLISH)], [key for key, _ in texts(definitions(language))]
    left, gone = [key for key in english if key not in here], [key for key in here if key not in english]
    assert not left, "\n".join([f"to translate into {language}:", *left])
    assert not gone, "\n".join([f"no longer in the English, left in {language}:", *gone])
    assert here == english, "another order: MSD_TRANSLATED=none sorts them"


def untranslated(text: str, language: str) -> bool:
    """Latin letters only, or what is the other language: Chinese has no kana, and Japanese only words without them."""
    kana, han = KANA.findall(text), HAN.findall(text)
    alien = kana if language == "zh" else len(han) > 6 and not kana
    return text not in SAME and (bool(alien) or not kana + han)


def both(language: str) -> list[tuple[str, str, str]]:
    """Key, English and translation of the texts that are translated; the others are another test's."""
    here = dict(texts(definitions(language)))
    return [(key, text, here[key]) for key, text in texts(ENGLISH) if key in here]


@by_language
def test_nothing_is_left_in_english(language: str) -> None:
    assert [key for key, _, text in both(language) if untranslated(text, language)] == []
    assert untranslated("Pixels.", language) and untranslated("steps", language)
    assert untranslated({"ja": "用于噪声，即起始状态的种子。", "zh": "ノイズのシード。"}[language], language)


@by_language
def test_tooltips_keep_numbers_symbols_and_names(language: str) -> None:
    sentences = [(key, english, text) for key, english, text in both(language) if not key.endswith(".name")]
    assert {key: wrong for key, english, text in sentences if (wrong := changed(english, text))} == {}
    english, sound = next(pair for key, *pair in sentences if key == "MSD_SDSStep.inputs.weighting.tooltip")
    for planted in (sound.replace("1", "2"), sound.replace("√", ""), sound + " SDXL"):
        assert changed(english, planted)


def options(entry: io.Input) -> list[str]:
    return [option for option in getattr(entry, "options", None) or [] if isinstance(option, str)]


def lost(names: list[str], english: str, text: str) -> list[str]:
    """Options that the English tooltip explains and the translation does not name."""

    def has(sentence: str, name: str) -> bool:
        return bool(re.search(rf"(?<![A-Za-z0-9_-]){re.escape(name)}(?![A-Za-z0-9_-])", sentence, re.IGNORECASE))

    return [name for name in names if len(name) > 1 and has(english, name) and not has(text, name)]


@by_language
def test_options_keep_their_names(language: str) -> None:
    menus = {f"{node}.inputs.{i.id}.tooltip": options(i) for node in ENGLISH for i in SCHEMAS[node].inputs}
    wrong = {key: missing for key, *pair in both(language) if (missing := lost(menus.get(key, []), *pair))}
    assert wrong == {}
    assert lost(["exact", "one-step"], "exact: draws; one-step: one", "exact：抽样；单步：一次") == ["one-step"]


@by_language
def test_nodes_are_called_by_their_names_in_other_texts(language: str) -> None:
    """A node that the English calls by its display name is called by its translated one."""
    names = {english: text for key, english, text in both(language) if re.fullmatch(r"\w+\.display_name", key)}
    written = pages(language)
    pairs = both(language)
    pairs += [(f"{node}.md", " ".join(page.split()), written[node]) for node, page in PAGES.items() if node in written]
    wrong = []
    for key, english, text in pairs:
        for name in sorted((name for name in names if " " in name), key=len, reverse=True):
            if name in english:
                english = english.replace(name, "")
                wrong += [] if names[name] in text else [(key, name, names[name])]
    assert wrong == []


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
