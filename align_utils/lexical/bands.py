"""Appendix: does the frequency of words, and with it which of them are rated, explain a mean rating?"""

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.lexical.ratings import RATING_GROUP, Scales, list_conditions, match_words, weigh_responses
from align_utils.norms.split import CultureNorms
from align_utils.norms.strengths import normalise_words

# Band of responses that no person of the norms gave to any cue.
UNSEEN = 0
# Distinct rated words that a band of response frequency needs on either side to count in a re-weighted mean.
FEWEST_RATED = 10


def band_words(norms: pd.DataFrame, language: Language, *, bands: int) -> pd.DataFrame:
    """Bands of response frequency, each with about the same number of people's responses (tokens).

    Returns `count` (over all cues) and `band` (1 the most frequent), indexed by normalised response. Words of one count share a band: that
    in which the middle of their tokens lies.

    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> norms = pd.DataFrame({"response": ["dog", "Dog", "cat", "fox", "owl"], "count": [4, 2, 3, 2, 1]})
    >>> band_words(norms, en, bands=2)["band"].to_dict()
    {'dog': 1, 'cat': 2, 'fox': 2, 'owl': 2}
    """
    counts = norms["count"].groupby(normalise_words(norms["response"], language)).sum()
    tokens = (counts.value_counts() * counts.value_counts().index).sort_index(ascending=False)
    middle = (tokens.cumsum() - tokens / 2) / tokens.sum()
    band = 1 + np.minimum((middle * bands).astype(int), bands - 1)
    table = pd.DataFrame({"count": counts, "band": counts.map(band)}).rename_axis("word")
    return table.sort_values("count", ascending=False, kind="stable")


def tabulate_bands(lists: pd.DataFrame, scale: pd.Series, bands: pd.Series, language: Language) -> pd.DataFrame:
    """Share, coverage and mean rating of the responses of each band, every cue with the same weight.

    `bands`: word to band (`band_words`); other words are in band `UNSEEN`. Returns `band, words, rated_words` (distinct), `share` (of the
    response weight, sums to 1), `rated` (share of the band's weight that is rated), `value` (mean rating, NaN where nothing is rated);
    bands without responses are left out.
    """
    long = weigh_responses(lists, language)
    value = match_words(long["word"], scale, language)["value"].reindex(long["word"]).to_numpy()
    mass = long["weight"].where(np.isfinite(value), 0.0)
    frame = pd.DataFrame({
        "band": bands.reindex(long["word"]).fillna(UNSEEN).astype(int).to_numpy(), "words": long["word"], "share": long["weight"],
        "rated_words": long["word"].where(np.isfinite(value)), "mass": mass, "sum": mass * np.nan_to_num(value),
    })  # fmt: skip
    how = {"words": "nunique", "rated_words": "nunique", "share": "sum", "mass": "sum", "sum": "sum"}
    table = frame.groupby("band").agg(how).reset_index()
    table["rated"], table["value"] = table["mass"] / table["share"], table["sum"] / table["mass"].where(table["mass"] > 0)
    table["share"] /= table["share"].sum()
    return table[["band", "words", "rated_words", "share", "rated", "value"]]


def reweigh_mean(table: pd.DataFrame, people: pd.DataFrame) -> dict[str, object]:
    """Mean rating as it is, and with the bands (`tabulate_bands`) weighted as in all of people's responses, rated or not.

    Bands in which either side has fewer than FEWEST_RATED distinct rated words are left out on both sides: their mean is that of a few words.
    Returns `mean` (over rated responses), `reweighed`, `human` (people re-weighted over the same bands), `bands` (those used, as text);
    NaN where no band is left.

    >>> people = pd.DataFrame({"band": [1, 2], "rated_words": [90, 90], "share": [0.5, 0.5], "rated": [1.0, 0.5], "value": [2.0, 5.0]})
    >>> reweigh_mean(people, people)
    {'mean': 3.0, 'reweighed': 3.5, 'human': 3.5, 'bands': '1, 2'}
    """
    mass = table["share"] * table["rated"]
    plain = float((mass * table["value"].fillna(0.0)).sum() / mass.sum()) if mass.sum() else float("nan")
    both = people.merge(table, on="band", suffixes=("_human", ""))
    both = both[(both["rated_words_human"] >= FEWEST_RATED) & (both["rated_words"] >= FEWEST_RATED)]
    weight = both["share_human"] / both["share_human"].sum()
    reweighed, human = (float((weight * both[side]).sum()) if len(both) else float("nan") for side in ("value", "value_human"))
    return {"mean": plain, "reweighed": reweighed, "human": human, "bands": ", ".join(map(str, both["band"]))}


def band_ratings(
    cfg: Config, lists: pd.DataFrame, people: dict[str, CultureNorms], scales: Scales
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings by band of response frequency, and means re-weighted to people's shares of the bands.

    Frequent words are rated more often than rare ones, and stages use them to different degrees: either moves a mean that says
    nothing of the words themselves. Returns `model, culture, rating, stage, band` (1 the most frequent, 0 given by nobody),
    `least` and `most` (count of its words over all cues), and the rest of `tabulate_bands`; then `model, culture, rating,
    stage, mean` (all rated responses to all test cues, each cue alike), `reweighed, bands` (`reweigh_mean`), `gap` and
    `gap_reweighed` (from people's).
    """
    by, means = [*RATING_GROUP, "stage"], []
    tables = [pd.DataFrame(columns=[*by, "band", "least", "most", "words", "rated_words", "share", "rated", "value"])]
    for culture, own in people.items():
        language = cfg.language_of(culture)
        bands = band_words(own.norms, language, bands=cfg.profile.ratings.bands)
        ends = bands.groupby("band")["count"].agg(least="min", most="max").reset_index()
        conditions = list_conditions(cfg.models, lists, culture, own)
        for rating, scale in scales[culture].items():
            found = {key: tabulate_bands(part, scale, bands["band"], language) for key, part in conditions.items()}
            for (model, name), table in found.items():
                where = dict(zip(by, (model, culture, rating, name), strict=True))
                tables.append(table.merge(ends, how="left").assign(**where))
                human = found[model, "human"]
                shown, plain = reweigh_mean(table, human), reweigh_mean(human, human)["mean"]
                gaps = {"gap": shown["mean"] - plain, "gap_reweighed": shown["reweighed"] - shown.pop("human")}
                means.append({**where, **shown, **gaps})
    table = pd.concat(tables[1:] or tables, ignore_index=True)[tables[0].columns]
    return table, pd.DataFrame(means, columns=[*by, "mean", "reweighed", "bands", "gap", "gap_reweighed"])
