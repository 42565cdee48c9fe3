"""When do two responses count as the same? Exact by default; lemma-level, which also joins inflected and multi-word forms."""

from __future__ import annotations

from collections.abc import Iterable

from align_utils.config import Language
from align_utils.pairs import lemmatise

MATCHINGS = ("exact", "lemma")


def fold_words(words: Iterable[str], language: Language, matching: str) -> dict[str, str]:
    """The form under which each word is compared.

    Parameters
    ----------
    words : iterable of str
        As written; each distinct word is folded once.
    matching : {'exact', 'lemma'}
        `exact`: the language's normal form (NFKC, case, outer punctuation, spaces). `lemma`: hyphens are spaces, the language's
        `leading` words and `endings` are dropped (an ending only behind two characters), and every word of the response is replaced by its lemma.

    Returns
    -------
    dict
        Word to form; empty forms are kept as they are.

    Examples
    --------
    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> fold_words(["Ice-Creams", "to run"], en, "lemma")
    {'Ice-Creams': 'ice cream', 'to run': 'run'}
    >>> fold_words(["Ice-Creams"], en, "exact")
    {'Ice-Creams': 'ice-creams'}
    """
    fold = {"exact": language.normalise, "lemma": lambda word: _fold_lemma(word, language)}[matching]
    return {word: fold(word) for word in dict.fromkeys(words)}


def _fold_lemma(word: str, language: Language) -> str:
    parts = language.normalise(word).replace("-", " ").split()
    while len(parts) > 1 and parts[0] in language.leading:
        parts = parts[1:]
    if parts:
        # At least two characters must stay: 目的 (aim) and 女儿 (daughter) do not end in a particle.
        ending = next((end for end in language.endings if parts[-1].endswith(end) and len(parts[-1]) > len(end) + 1), "")
        parts[-1] = parts[-1].removesuffix(ending)
    return ("" if language.remove_spaces else " ").join(lemmatise(part, language) for part in parts)
