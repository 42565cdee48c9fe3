"""Responses and their ratings as pure functions: exact and lemma matches, means per cue, bands of response frequency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from align_utils.config import Language
from align_utils.matching import fold_words
from align_utils.rating_settings import RatingRules

MATCHES = ("exact", "lemma", "unrated")
# Band of responses that no person of the norms gave to any cue.
UNSEEN = 0


def match_words(words: Iterable[str], scale: pd.Series, language: Language, rules: RatingRules) -> pd.DataFrame:
    """The rating of each word: its own, else that of its lemma.

    Parameters
    ----------
    words : iterable of str
        Normalised words, of people and of models alike.
    scale : Series
        Rating of each normalised word (`ratings.load_rating`).
    rules : RatingRules
        `lemma_backoff`: look for the lemma (`matching.fold_words`) of a word that is not rated itself, in languages that have a
        lemmatiser. `multiword`: responses of several words `exact` only, or by their folded form too.

    Returns
    -------
    DataFrame
        Indexed by distinct word: `value` (NaN where unrated), `match` ('exact', 'lemma' or 'unrated').

    Examples
    --------
    >>> from align_utils import config
    >>> cfg = config.load("smoke"); en = cfg.languages["en"]
    >>> match_words(["dog", "dogs", "hot dogs"], pd.Series({"dog": 4.9, "hot dog": 4.8}), en, cfg.profile.ratings)
              value    match
    dog         4.9    exact
    dogs        4.9    lemma
    hot dogs    NaN  unrated
    """
    found = pd.DataFrame({"value": scale.reindex(pd.Index(dict.fromkeys(words), dtype=str))}, dtype=float)
    found["match"] = np.where(found["value"].notna(), "exact", "unrated")
    # Without a lemmatiser only endings would be dropped, and 女儿 (daughter) is not rated as 女 is.
    if rules.lemma_backoff and language.lemmatiser:
        left = [word for word in found.index[found["value"].isna()] if rules.multiword == "lemma" or " " not in word]
        lemmas = scale.reindex(list(fold_words(left, language, "lemma").values())).to_numpy(dtype=float)
        known = [word for word, value in zip(left, lemmas, strict=True) if np.isfinite(value)]
        found.loc[known, "value"] = lemmas[np.isfinite(lemmas)]
        found.loc[known, "match"] = "lemma"
    return found


def weigh_responses(lists: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Lists in long form: every response with its share of the cue's weight.

    Parameters
    ----------
    lists : DataFrame
        `cue`, `responses`, optionally `weights` (list of float beside the responses; default all alike). One row a cue.

    Returns
    -------
    DataFrame
        `cue, word` (normalised), `weight` (sums to 1 a cue); no row for a cue without responses.
    """
    rows = lists.assign(weights=lists["weights"] if "weights" in lists else [[1.0] * len(r) for r in lists["responses"]])
    rows = rows.loc[rows["responses"].map(len) > 0, ["cue", "responses", "weights"]].explode(["responses", "weights"])
    weight = rows["weights"].astype(float)
    forms = {word: language.normalise(word) for word in rows["responses"].unique()}
    share = weight / weight.groupby(rows["cue"]).transform("sum")
    return pd.DataFrame({"cue": rows["cue"], "word": rows["responses"].map(forms), "weight": share}).reset_index(drop=True)


def rate_responses(lists: pd.DataFrame, scales: dict[str, pd.Series], language: Language, rules: RatingRules) -> pd.DataFrame:
    """Mean rating of each cue's responses.

    Parameters
    ----------
    lists : DataFrame
        See `weigh_responses`.
    scales : dict
        Rating to Series, see `match_words`.

    Returns
    -------
    DataFrame
        `cue, rating, value` (NaN where nothing is rated), `exact, lemma, unrated` (shares of the response weight, which sum to
        1; NaN for a cue without responses).
    """
    long, parts = weigh_responses(lists, language), []
    for name, scale in scales.items():
        found = match_words(long["word"], scale, language, rules).loc[long["word"]].reset_index(drop=True)
        mass = long["weight"].where(found["value"].notna(), 0.0)
        sums = pd.DataFrame({"cue": long["cue"], "value": mass * found["value"].fillna(0.0), "mass": mass})
        sums = sums.assign(**{match: long["weight"].where(found["match"] == match, 0.0) for match in MATCHES})
        table = sums.groupby("cue").sum().reindex(lists["cue"])
        table["value"] = table["value"] / table["mass"].where(table["mass"] > 0)
        parts.append(table.reset_index().assign(rating=name)[["cue", "rating", "value", *MATCHES]])
    columns = ["cue", "rating", "value", *MATCHES]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def band_words(norms: pd.DataFrame, language: Language, *, bands: int) -> pd.DataFrame:
    """Bands of response frequency, each with about the same number of people's responses (tokens).

    Parameters
    ----------
    norms : DataFrame
        `response, count` over all cues.
    bands : int

    Returns
    -------
    DataFrame
        Indexed by normalised response: `count` (over all cues) and `band` (1 the most frequent). Words of one count share a
        band: that in which the middle of their tokens lies.

    Examples
    --------
    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> norms = pd.DataFrame({"response": ["dog", "Dog", "cat", "fox", "owl"], "count": [4, 2, 3, 2, 1]})
    >>> band_words(norms, en, bands=2)["band"].to_dict()
    {'dog': 1, 'cat': 2, 'fox': 2, 'owl': 2}
    """
    forms = {word: language.normalise(word) for word in norms["response"].unique()}
    counts = norms["count"].groupby(norms["response"].map(forms)).sum()
    tokens = (counts.value_counts() * counts.value_counts().index).sort_index(ascending=False)
    middle = (tokens.cumsum() - tokens / 2) / tokens.sum()
    band = 1 + np.minimum((middle * bands).astype(int), bands - 1)
    table = pd.DataFrame({"count": counts, "band": counts.map(band)}).rename_axis("word")
    return table.sort_values("count", ascending=False, kind="stable")


def tabulate_bands(
    lists: pd.DataFrame, scale: pd.Series, bands: pd.Series, language: Language, rules: RatingRules
) -> pd.DataFrame:
    """Share, coverage and mean rating of the responses of each band, every cue with the same weight.

    Parameters
    ----------
    lists, scale : DataFrame, Series
        See `weigh_responses` and `match_words`.
    bands : Series
        Word to band (`band_words`); other words are in band `UNSEEN`.

    Returns
    -------
    DataFrame
        `band, words, rated_words` (distinct), `share` (of the response weight, sums to 1), `rated` (share of the band's weight
        that is rated), `value` (mean rating, NaN where nothing is rated); bands without responses are left out.
    """
    long = weigh_responses(lists, language)
    value = match_words(long["word"], scale, language, rules)["value"].reindex(long["word"]).to_numpy()
    mass = long["weight"].where(np.isfinite(value), 0.0)
    frame = pd.DataFrame({
        "band": bands.reindex(long["word"]).fillna(UNSEEN).astype(int).to_numpy(), "word": long["word"], "share": long["weight"],
        "known": long["word"].where(np.isfinite(value)), "mass": mass, "sum": mass * np.nan_to_num(value),
    })  # fmt: skip
    table = frame.groupby("band").agg(
        words=("word", "nunique"),
        rated_words=("known", "nunique"),
        share=("share", "sum"),
        mass=("mass", "sum"),
        sum=("sum", "sum"),
    )
    table["rated"], table["value"] = table["mass"] / table["share"], table["sum"] / table["mass"].where(table["mass"] > 0)
    table["share"] /= table["share"].sum()
    return table.reset_index()[["band", "words", "rated_words", "share", "rated", "value"]]


def reweigh_mean(table: pd.DataFrame, people: pd.DataFrame, *, fewest: int) -> dict[str, object]:
    """Mean rating as it is, and with the bands weighted as in all of people's responses, rated or not.

    Parameters
    ----------
    table, people : DataFrame
        From `tabulate_bands`.
    fewest : int
        Bands in which either side has fewer distinct rated words are left out on both sides: their mean is that of a few words.

    Returns
    -------
    dict
        `mean` (over rated responses), `reweighed`, `human` (people re-weighted over the same bands), `bands` (those used, as
        text); NaN where no band is left.

    Examples
    --------
    >>> people = pd.DataFrame({"band": [1, 2], "rated_words": [9, 9], "share": [0.5, 0.5], "rated": [1.0, 0.5], "value": [2.0, 5.0]})
    >>> reweigh_mean(people, people, fewest=5)
    {'mean': 3.0, 'reweighed': 3.5, 'human': 3.5, 'bands': '1, 2'}
    """
    mass = table["share"] * table["rated"]
    plain = float((mass * table["value"].fillna(0.0)).sum() / mass.sum()) if mass.sum() else float("nan")
    both = people.merge(table, on="band", suffixes=("_human", ""))
    both = both[(both["rated_words_human"] >= fewest) & (both["rated_words"] >= fewest)]
    weight = both["share_human"] / both["share_human"].sum()
    means = {"reweighed": both["value"], "human": both["value_human"]}
    found = {name: float((weight * values).sum()) if len(both) else float("nan") for name, values in means.items()}
    return {"mean": plain, **found, "bands": ", ".join(map(str, both["band"]))}


def list_people(norms: pd.DataFrame, cues: Sequence[str]) -> pd.DataFrame:
    """People's responses to the cues, weighted by strength: `cue, responses, weights`."""
    part = norms[norms["cue"].isin(set(cues))]
    return part.groupby("cue").agg(responses=("response", list), weights=("strength", list)).reset_index()


def list_strongest(norms: pd.DataFrame, cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """People's k strongest responses to the cues, all with the same weight, as a model's list: `cue, responses`."""
    part = norms[norms["cue"].isin(set(cues))].sort_values(["cue", "strength", "response"], ascending=[True, False, True])
    return part.groupby("cue").head(k).groupby("cue").agg(responses=("response", list)).reset_index()
