"""The demo model's text encoder: a small causal transformer over the words of the scene grammar.

Layers and names follow CLIP's text model (Radford et al. 2021), only narrower and with a vocabulary of its own words,
so that the weights load into any program that reads Stable Diffusion 1 checkpoints.

Conventions: a prompt becomes ``CONTEXT_LENGTH`` word numbers: start, the words, then end tokens up to the length. The
encoding is (B, CONTEXT_LENGTH, hidden_size), after the last layer norm.
"""

from __future__ import annotations

import difflib
import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..echo import cut, shown
from .grammar import GROUPS, POSITIONS, RELATIONS, SIZES, STYLES
from .grounds import COLOURS, PLACES
from .silhouettes import THINGS
from .synonyms import SYNONYMS

CONTEXT_LENGTH = 24
START, END = "<start>", "<end>"


def _grammar_words() -> list[str]:
    phrases = " ".join([*POSITIONS, *RELATIONS, *GROUPS, *PLACES]).split()
    words = dict.fromkeys(["a", "an", "background", *COLOURS, *THINGS, *SIZES, *STYLES, *phrases])
    return [START, END, *words]


VOCABULARY: tuple[str, ...] = tuple(_grammar_words())
"""The words the model knows; a word's number is its place."""

TEXT_CONFIG = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": CONTEXT_LENGTH,
    "eos_token_id": 1,
    "projection_dim": 128,
    "vocab_size": len(VOCABULARY),
}
"""CLIP's text ``config`` of the demo model."""


def words_of(prompt: str) -> list[str]:
    """Split a prompt into lower-case words; commas, full stops and underscores between words are dropped."""
    return re.findall(r"[^\s,._]+", prompt.lower())


def suggestion(word: str) -> str:
    """The known word that ``word`` most likely means, "" if none is near."""
    known = {**{w: w for w in VOCABULARY[2:]}, **SYNONYMS}
    if word.removesuffix("s") in known:
        return known[word.removesuffix("s")]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.75)
    return known[near[0]] if near else ""


def _meant(unknown: list[str]) -> str:
    pairs = [(word, suggestion(word)) for word in unknown]
    said = cut(", ".join(f"{word} → {near}" for word, near in pairs if near))
    return f"did you mean {said}? Otherwise " if said else ""


def token_ids(prompt: str) -> list[int]:
    """The word numbers of ``prompt``: start, words, end; not padded.

    Raises:
        ValueError: a word is not in the vocabulary, or there are more words than fit.
    """
    words = words_of(prompt)
    unknown = [w for w in words if w not in VOCABULARY[2:]]
    if unknown:
        raise ValueError(
            f"prompt: {shown(prompt)} has words that the demo model does not know: {cut(', '.join(unknown))}; "
            f"{_meant(unknown)}it knows only things: {', '.join(THINGS)}; colours: {', '.join(COLOURS)}; sizes: "
            f"{', '.join(SIZES)}; relations: {', '.join((*RELATIONS, 'between … and …'))}; grounds: on a <colour> "
            f"background, {', '.join(PLACES)}; styles: {', '.join(STYLES)}. Write e.g. 'a red boat left of a yellow "
            f"house at sea', or load a real checkpoint"
        )
    if len(words) > CONTEXT_LENGTH - 2:
        raise ValueError(
            f"prompt: {len(words)} words, but the demo model reads at most {CONTEXT_LENGTH - 2}; shorten "
            f"{shown(prompt)}"
        )
    return [0, *(VOCABULARY.index(w) for w in words), 1]


def tokenize(prompts: list[str]) -> Tensor:
    """Word numbers (B, CONTEXT_LENGTH), padded with the end token. Errors as :func:`token_ids`."""
    rows = [token_ids(p) for p in prompts]
    return torch.tensor([row + [1] * (CONTEXT_LENGTH - len(row)) for row in rows])


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class _Layer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        dim = config["hidden_size"]
        self.layer_norm1 = nn.LayerNorm(dim)
        self.self_attn = _Attention(dim, config["num_attention_heads"])
        self.layer_norm2 = nn.LayerNorm(dim)
        self.mlp = _MLP(dim, config["intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Embeddings(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.position_embedding = nn.Embedding(config["max_position_embeddings"], config["hidden_size"])
        nn.init.normal_(self.position_embedding.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token_embedding(tokens) + self.position_embedding.weight


class _Encoder(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class _TextModel(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config["hidden_size"])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.final_layer_norm(self.encoder(self.embeddings(tokens)))


class TextEncoder(nn.Module):
    """Word numbers (B, CONTEXT_LENGTH) to an encoding (B, CONTEXT_LENGTH, hidden_size); ``config`` as
    :data:`TEXT_CONFIG`.
    """

    def __init__(self, config: dict = TEXT_CONFIG) -> None:
        super().__init__()
        self.text_model = _TextModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.text_model(tokens)
