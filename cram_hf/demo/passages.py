"""The project's synthetic reading-comprehension set: invented passages with questions, in the official SQuAD form.

Every passage tells several facts with values of the same kinds (several people, several years, several places), so a
question has to be read and matched; guessing a value of the right kind is wrong most of the time. The text is
original, made from the templates of the `forms_*` modules; it describes no real person, place or event.

The dev set shares with the train set its forms and statements, common words, years and numbers. It does not share
surnames, places and ships, nor the last wording of a question that has three or more, which train never uses.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

from cram_hf.demo import forms_people, forms_town, forms_trade
from cram_hf.demo.form import Fact, Form
from cram_hf.demo.vocabulary import Split, Vocabulary, pronouns

VERSION = "cram_hf demo 1 (synthetic)"
FORMS: tuple[Form, ...] = forms_people.FORMS + forms_trade.FORMS + forms_town.FORMS
PASSAGES_PER_ARTICLE = 4
QUESTIONS = (3, 6)
WORDS = (60, 160)
SLOT = re.compile(r"\{(\w+)\}")
PRONOUNS = frozenset(("he", "him", "his", "surname"))


@dataclass(frozen=True)
class Span:
    """A value as it stands in the passage: its kind, its text and where it starts."""

    kind: str
    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """A question, the name of what it asks about (`"form/fact/slot"`) and the span that answers it."""

    relation: str
    text: str
    answer: Span


@dataclass
class Passage:
    """A passage under construction: its text, every value in it and every question that could be asked."""

    text: str = ""
    spans: list[Span] = field(default_factory=list)
    candidates: list[Question] = field(default_factory=list)

    def rivals(self, span: Span) -> int:
        """Return how many other values of the kind of `span` the passage holds."""
        return len({other.text for other in self.spans if other.kind == span.kind} - {span.text})


def generate(seed: int, passages: int, split: Split = "train") -> list[dict[str, Any]]:
    """Return articles in the official SQuAD v1.1 nested form, with `passages` passages in all.

    Forms take turns, so all occur equally often; an article is a few passages of one form. Deterministic in
    `(seed, passages, split)`, on every machine.

    Args:
        seed (`int`): Seed of the only source of chance, a `random.Random`.
        passages (`int`): How many passages, at least 1.
        split (`str`, *optional*, defaults to `"train"`):
            `"dev"` draws other names and also asks in the wordings that are held out from `"train"`.

    Raises:
        `ValueError`: If `passages` is below 1 or `split` is neither.
    """
    if split not in ("train", "dev"):
        raise ValueError(f"split is {split!r}; there is 'train' and 'dev'. Use split=\"train\".")
    if passages < 1:
        raise ValueError(f"passages is {passages}; a set needs at least 1. Type e.g. --{split}-passages 80.")
    rng = random.Random(f"{split} {seed}")
    articles = []
    order: list[Form] = []
    for first in range(0, passages, PASSAGES_PER_ARTICLE):
        order = order or rng.sample(FORMS, len(FORMS))
        form, number = order.pop(), first // PASSAGES_PER_ARTICLE + 1
        count = min(PASSAGES_PER_ARTICLE, passages - first)
        prefix = f"{split}-{number:04d}"
        paragraphs = [_paragraph(write_passage(form, rng, split), rng, f"{prefix}-{i}") for i in range(count)]
        articles.append({"title": f"Synthetic {form.name} {number}", "paragraphs": paragraphs})
    return articles


def write_passage(form: Form, rng: random.Random, split: Split) -> Passage:
    """Return a passage of `form` with all its candidate questions; `rng` is advanced."""
    while True:
        passage, vocabulary = Passage(), Vocabulary(rng, split)
        shared = _tell(passage, form.opening, f"{form.name}/0", {}, vocabulary)
        told = sorted(_choose(form, rng))
        asides = {rng.choice(told): aside for aside in rng.sample(form.asides, rng.randint(1, 2))}
        for index in told:
            for _ in range(rng.randint(*form.facts[index].repeat)):
                _tell(passage, form.facts[index], f"{form.name}/{index + 1}", shared, vocabulary)
            if index in asides:
                passage.text += " " + asides[index]
        if WORDS[0] <= len(passage.text.split()) <= WORDS[1]:
            return passage


def _choose(form: Form, rng: random.Random) -> list[int]:
    always = [i for i, fact in enumerate(form.facts) if fact.repeat[1] > 1]
    others = [i for i, fact in enumerate(form.facts) if fact.repeat[1] == 1]
    return always + rng.sample(others, rng.randint(len(others) - 1, len(others)))


def _tell(passage: Passage, fact: Fact, name: str, shared: dict[str, str], vocabulary: Vocabulary) -> dict[str, str]:
    """Append one wording of `fact` with fresh values and return all values now known; `passage` grows."""
    rng = vocabulary.rng
    known = dict(shared)
    statement = rng.choice(fact.statements)
    for slot in sorted({*SLOT.findall(fact.statements[0]), *fact.asks} - PRONOUNS - known.keys()):
        known[slot] = vocabulary.draw(slot.split("_")[0])
    if "hero" in known:
        known |= pronouns(known["hero"])
    spans = _write(passage, statement, known)
    for slot, wordings in fact.asks.items():
        held_out = len(wordings) > 2 and vocabulary.split == "train"
        wording = rng.choice(wordings[:-1] if held_out else wordings)
        passage.candidates.append(Question(f"{name}/{slot}", wording.format_map(known), spans[slot]))
    return known


def _write(passage: Passage, statement: str, values: dict[str, str]) -> dict[str, Span]:
    """Append the filled-in `statement`, its first letter capital, and return the span of each slot."""
    text = passage.text + (" " if passage.text else "")
    start, spans = len(text), {}
    pieces = SLOT.split(statement)
    for literal, slot in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        text += literal
        if slot:
            spans[slot] = (len(text), values[slot])
            text += values[slot]
    passage.text = text[:start] + text[start].upper() + text[start + 1 :]
    found = {slot: Span(_kind(slot), passage.text[at : at + len(value)], at) for slot, (at, value) in spans.items()}
    passage.spans += [span for slot, span in found.items() if slot not in PRONOUNS]
    return found


def _kind(slot: str) -> str:
    return "person" if slot == "hero" else slot.split("_")[0]


def _paragraph(passage: Passage, rng: random.Random, prefix: str) -> dict[str, Any]:
    """Return the official paragraph; questions with two rivals or more for their answer come before others."""
    wanted = rng.randint(*QUESTIONS)
    candidates = sorted(
        rng.sample(passage.candidates, len(passage.candidates)), key=lambda q: passage.rivals(q.answer) < 2
    )
    qas = [
        {
            "id": f"{prefix}-{i}",
            "question": question.text[0].upper() + question.text[1:],
            "answers": [{"text": question.answer.text, "answer_start": question.answer.start}],
        }
        for i, question in enumerate(candidates[:wanted])
    ]
    return {"context": passage.text, "qas": qas}
