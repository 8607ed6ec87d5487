"""Words that people write for words that the demo model knows; they are suggested, never replaced silently."""

from __future__ import annotations

_MEANT = {
    "large": "big huge giant",
    "small": "little tiny",
    "red": "scarlet crimson",
    "purple": "violet lilac",
    "circle": "ball disc disk",
    "square": "box cube rectangle",
    "diamond": "rhombus",
    "cross": "plus",
    "moon": "crescent",
    "fir": "pine spruce",
    "house": "home hut cottage",
    "mountain": "hill",
    "boat": "ship sailboat",
    "flower": "rose tulip daisy",
    "mushroom": "toadstool",
    "cat": "kitten kitty",
    "cup": "mug teacup",
    "car": "automobile auto",
    "above": "over",
    "below": "under beneath",
    "left of": "beside",
    "at sea": "ocean water",
    "in a meadow": "grass field",
    "in the snow": "winter",
    "at sunset": "evening dusk",
    "outlined": "outline cartoon",
}
SYNONYMS: dict[str, str] = {word: known for known, words in _MEANT.items() for word in words.split()}
"""A word to the known word, or phrase, that it most likely means."""
