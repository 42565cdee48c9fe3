"""Probabilities of written answers after a prompt: labels in several written forms, refusals, option texts; generated text parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from tqdm import tqdm

from align_utils.continuations import Tokens, score_tails

# Readings of the option texts' probability: the logarithms summed; divided by the tokens; by the characters; less the logarithm
# that the same text has after the bare lead, without a question (pointwise mutual information).
TEXT_READINGS = ("text_sum", "text_tokens", "text_characters", "text_pmi")


def split_texts(tokenizer, prompt: str, texts: Sequence[str]) -> tuple[Tokens, list[Tokens]]:
    """Token ids of what all texts go on from, and of each text from there.

    Prompt and text are tokenised as one string, since a tokeniser may join the end of one with the beginning of the other; what
    all have in common with the prompt is the context. Where something is joined, the context ends before it.

    Examples
    --------
    >>> split_texts(lambda text: {"input_ids": list(map(ord, text))}, "A", ["1", "10"])
    ((65,), [(49,), (49, 48)])
    >>> split_texts(lambda text: {"input_ids": list(map(ord, text.replace(":1", "!")))}, "A:", ["1", "2"])  # ':1' is one token
    ((65,), [(33,), (58, 50)])
    """
    joined = [tuple(tokenizer(prompt + text)["input_ids"]) for text in texts]
    rows = [tuple(tokenizer(prompt)["input_ids"]), *joined]
    # A text keeps a token of its own and a context is never empty.
    limit = min(len(rows[0]), *(len(row) - 1 for row in joined))
    common = next((place for place in range(limit) if len({row[place] for row in rows}) > 1), limit)
    return rows[0][:common], [row[common:] for row in joined]


def read_texts(
    model,
    tokenizer,
    asked: Sequence[tuple[str, Sequence[str]]],
    keys: Sequence[Hashable],
    *,
    batch_tokens: int,
    label: str = "",
) -> list[list[tuple[Tokens, np.ndarray]]]:
    """Tokens and their log-probabilities of each text after its prompt; prompts of one key go through the model together.

    Parameters
    ----------
    asked : sequence of (prompt, texts)
    keys : sequence
        One a prompt, alike where prompts begin alike (an item in one language).

    Returns
    -------
    list of list of (tuple of int, ndarray)
    """
    plans = [split_texts(tokenizer, prompt, texts) for prompt, texts in asked]
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    results: list[list[tuple[Tokens, np.ndarray]]] = [[] for _ in asked]
    for group in tqdm(groups.values(), desc=label or "survey", unit="item", leave=False):
        scores = score_tails(model, tokenizer.pad_token_id, [plans[i] for i in group], batch_tokens=batch_tokens)
        for index, logs in zip(group, scores, strict=True):
            results[index] = list(zip(plans[index][1], logs, strict=True))
    return results


def exclude_longer(read: Sequence[tuple[Tokens, np.ndarray]]) -> np.ndarray:
    """Probability of each text and of none that goes on from it: of '1' without what goes on to '10'.

    Examples
    --------
    >>> exclude_longer([((1,), np.log([0.5])), ((1, 0), np.log([0.5, 0.2])), ((2,), np.log([0.3]))]).round(3).tolist()
    [0.4, 0.1, 0.3]
    """
    whole = [float(np.exp(logs.sum())) for _, logs in read]
    tails = [tail for tail, _ in read]

    def goes_on(longer: Tokens, tail: Tokens) -> bool:
        return len(longer) > len(tail) and longer[: len(tail)] == tail

    result = []
    for tail, probability in zip(tails, whole, strict=True):
        after = [index for index, other in enumerate(tails) if goes_on(other, tail)]
        # Of 'a', 'ab' and 'abc' only 'ab' is taken from 'a': 'abc' is part of it.
        nearest = [i for i in after if not any(goes_on(tails[i], tails[j]) for j in after)]
        result.append(max(0.0, probability - sum(whole[i] for i in nearest)))
    return np.array(result)


def score_labels(
    model, tokenizer, prompts: Sequence[str], sizes: Sequence[int], forms: Sequence[Sequence[str]], keys: Sequence[Hashable], *,
    batch_tokens: int, label: str = "",
) -> list[np.ndarray]:  # fmt: skip
    """Probability that the model goes on from a prompt with each label 1..n, in any of the written forms.

    The forms ('' and ' ' before the label) are events that exclude each other after the same prompt, so they are added up.

    Parameters
    ----------
    sizes, forms, keys : sequences
        Number of options, what may stand before the label, and the group, one a prompt.

    Returns
    -------
    list of ndarray, shape (n,)
        Not normalised: the sum is the option mass, in [0, 1].
    """
    asked = [
        (prompt, [f"{form}{place}" for form in before for place in range(1, size + 1)])
        for prompt, size, before in zip(prompts, sizes, forms, strict=True)
    ]
    read = read_texts(model, tokenizer, asked, keys, batch_tokens=batch_tokens, label=label)
    return [exclude_longer(row).reshape(-1, size).sum(axis=0) for row, size in zip(read, sizes, strict=True)]


def share_texts(
    read: Sequence[tuple[Tokens, np.ndarray]], texts: Sequence[str], bare: Sequence[float]
) -> dict[str, np.ndarray]:
    """The options' shares by every reading of TEXT_READINGS: a softmax over the options of the reading's logarithms.

    Parameters
    ----------
    read : sequence of (tokens, log-probabilities)
        Of each option text.
    texts : sequence of str
        Without what stands before them; their characters are counted.
    bare : sequence of float
        Log-probability of each text after the bare lead.
    """
    total = np.array([logs.sum() for _, logs in read])
    readings = {
        "text_sum": total, "text_tokens": total / [len(tail) for tail, _ in read],
        "text_characters": total / [len(text) for text in texts], "text_pmi": total - np.array(bare),
    }  # fmt: skip
    weights = {name: np.exp(values - values.max()) for name, values in readings.items()}
    return {name: weights[name] / weights[name].sum() for name in TEXT_READINGS}


def parse_answer(text: str, options: Sequence[str], normalise: Callable[[str], str]) -> int | None:
    """Place (1..n) of the option that a generated answer names, by its label or else by its text; None where it names none.

    The first line that is not empty counts. A label is a whole number at its beginning; a text stands at its beginning in the
    language's normal form, the longest that fits.

    Examples
    --------
    >>> parse_answer(" 2. Rather\\nAnswer", ["Very", "Rather"], str.casefold)
    2
    >>> parse_answer("very good indeed", ["Very", "Very good"], str.casefold)
    2
    >>> parse_answer("12", ["Very", "Rather"], str.casefold) is None
    True
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    number = re.match(r"\W*(\d+)", line)
    if number:
        place = int(number[1])
        return place if 1 <= place <= len(options) else None
    line = normalise(line)
    fits = [
        place for place, option in enumerate(options, start=1) if re.match(rf"{re.escape(normalise(option))}(?![a-z])", line)
    ]
    return max(fits, key=lambda place: len(options[place - 1]), default=None)
