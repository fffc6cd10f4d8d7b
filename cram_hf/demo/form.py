"""What a passage form is: facts, each with several wordings and several questions, as templates with typed slots.

A slot is written `{kind}` or `{kind_role}`: `{person}`, `{year_birth}`. The part before the underscore is the kind of
value drawn for it (see `vocabulary.py`). A slot of the opening keeps its value through the whole passage; a slot of
any other fact belongs to that one sentence, so a repeated fact gets fresh values each time. `{hero}` in an opening is
a person with pronouns: `{he}`, `{him}`, `{his}` and `{surname}` follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fact:
    """One sentence of a passage, in several wordings, and what can be asked about it.

    Args:
        statements (`tuple[str, ...]`):
            Wordings of the same facts; each names every slot that is asked about.
        asks (`dict[str, tuple[str, ...]]`):
            For each slot, wordings of the question whose answer it is. Where there are three or more, the last one is
            held out: only the dev set uses it.
        repeat (`tuple[int, int]`, *optional*, defaults to `(1, 1)`):
            Least and most sentences of this kind in one passage, each with its own values. A question about such a
            sentence has to name one of its values, since its siblings read alike.
    """

    statements: tuple[str, ...]
    asks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    repeat: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Form:
    """A kind of passage.

    Args:
        name (`str`): What it is called in article titles, such as `"travel diary"`.
        opening (`Fact`): The first sentence; its values are shared by all that follow.
        facts (`tuple[Fact, ...]`): Further sentences. Those with `repeat` are always told, of the rest a part is.
        asides (`tuple[str, ...]`): Sentences without slots, which add length and nothing to ask about.
    """

    name: str
    opening: Fact
    facts: tuple[Fact, ...]
    asides: tuple[str, ...]
