"""What a model is shown and how its lists are read; the words themselves stand in notebooks/settings/languages/."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from align_utils.config.settings import Language

# Lists of base models mix separators; all of both languages' are accepted whichever was asked for.
SEPARATORS = re.compile(r"[,，、;；/|]")


def build_list_prompt(language: Language, cue: str, examples: Sequence[tuple[str, Sequence[str]]] = ()) -> str:
    """The question for one cue; the list is to follow. Few-shot `examples` (cues with their lists) stand in front, one a line.

    >>> from align_utils import config
    >>> build_list_prompt(config.load("smoke").languages["en"], "dog")
    'When people hear the word "dog", they think of:'
    """
    lines = [language.list_prompt.format(cue=word) + format_list(language, responses) for word, responses in examples]
    return "\n".join([*lines, language.list_prompt.format(cue=cue)])


def format_list(language: Language, responses: Sequence[str]) -> str:
    """The completion that a training example or a few-shot example shows after the prompt."""
    return language.list_lead + language.separator.join(responses)


def parse_list(language: Language, text: str, *, cue: str = "") -> list[str]:
    """Distinct responses of a generated text as written, in order: first line only, split at separators, copies of the cue left out.

    >>> from align_utils import config
    >>> parse_list(config.load("smoke").languages["en"], " cat, Bone, cat , dog\\nnext", cue="dog")
    ['cat', 'Bone']
    """
    kept: dict[str, str] = {}
    for part in split_parts(text):
        form = language.normalise(part)
        if form and form != language.normalise(cue):
            kept.setdefault(form, part)
    return list(kept.values())


def split_parts(text: str) -> list[str]:
    """The non-empty parts of the first line of a generated text, duplicates and copies of the cue included.

    >>> split_parts(" cat, cat, dog,")
    ['cat', 'cat', 'dog']
    """
    return [part.strip() for part in SEPARATORS.split(text.strip().split("\n", 1)[0]) if part.strip()]


def draw_lists(
    norms: pd.DataFrame, cues: Sequence[str], *, length: int, order: str, seed: int, temperature: float = 1.0
) -> list[list[str]]:
    """One training list a cue, in the order of `cues`; `length` responses, fewer where the cue has fewer.

    `order`: 'strength', the strongest in order; or 'sampled', drawn without replacement in proportion to strength ** (1 / `temperature`),
    so that over passes the model sees the distribution and not one fixed list.

    >>> table = pd.DataFrame({"cue": "dog", "response": ["cat", "bone", "bark"], "count": [50, 30, 20], "rank": [1, 2, 3]})
    >>> draw_lists(table, ["dog"], length=2, order="sampled", seed=0, temperature=0.001)
    [['cat', 'bone']]
    """
    rng = np.random.default_rng(seed)
    groups = dict(tuple(norms.groupby("cue", sort=False)))
    lists = []
    for cue in cues:
        rows = groups[cue].sort_values("rank")
        words, weights, size = rows["response"].to_numpy(), rows["count"].to_numpy(float), min(length, len(rows))
        if order == "sampled" and temperature == 1:
            words = words[rng.choice(len(words), size=size, replace=False, p=weights / weights.sum())]
        elif order == "sampled":
            # The same draw without replacement by Gumbel noise (Kool et al. 2019), which no small temperature can underflow. Not for
            # 1: the stored adapters were taught other draws of the same distribution.
            keys = np.log(weights) / temperature + rng.gumbel(size=len(words))
            words = words[np.argsort(-keys, kind="stable")]
        lists.append([str(word) for word in words[:size]])
    return lists


def list_orders(n_options: int, *, numeric: bool) -> list[list[int]]:
    """Option orders that a question is asked in: each a permutation of 0..n-1 in presentation order.

    Scales whose inner points are bare numerals are shown ascending and descending only; others in all rotations of both
    directions' start, and always in the descending order, so that the pair (ascending, descending) is there for every scale.
    The first is always the ascending order, the last the descending one.

    >>> list_orders(3, numeric=False)
    [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    >>> list_orders(2, numeric=False)
    [[0, 1], [1, 0]]
    """
    ascending = list(range(n_options))
    rotations = [ascending] if numeric else [ascending[i:] + ascending[:i] for i in range(n_options)]
    descending = ascending[::-1]
    return rotations if descending in rotations else [*rotations, descending]


def build_survey_prompt(
    language: Language, question: str, options: Sequence[str], order: Sequence[int], *, persona: str = "", lead: str = ""
) -> str:
    """A survey question with its options in one order; labels 1..n name the places, not the codes.

    Options whose text is a bare numeral (inner points of a ten-point scale) are shown as the label alone. `lead` stands in the
    place of the language's `answer_lead`. Such a question is followed by the language's `steps_hint`. An empty `order` shows no list.
    """
    hint = language.steps_hint if any(option.isdigit() for option in options) else ""
    lines = []
    for place, index in enumerate(order, start=1):
        text = "" if options[index].isdigit() else options[index]
        lines.append(language.option_line.format(label=place, text=text).rstrip())
    form = language.survey_prompt if order else language.survey_prompt.replace("{options}\n", "")
    return form.format(persona=persona, question=question + hint, options="\n".join(lines), lead=lead or language.answer_lead)
