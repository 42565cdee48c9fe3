"""Appendix: agreement of lists with people beyond Precision@5, matching by lemma, and the spread over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.config.stages import TARGETS
from align_utils.lexical.precision import RATED, add_families, map_strengths, score_conditions
from align_utils.norms.split import MATCHINGS, CultureNorms
from align_utils.stats import compare, spread_seeds, summarise

AGREEMENT_MEASURES = ("pwr", "strength_recall", "rank_correlation", "jaccard")


def weigh_ranks(generated: Sequence[str], human: Sequence[str], k: int) -> float:
    """PWR@K: hits weighted by the reciprocal of their human rank, over the most that k responses could reach; NaN without people's.

    >>> round(weigh_ranks(["bone", "moon"], ["cat", "bone", "bark"], 2), 3)  # (1/2) / (1 + 1/2)
    0.333
    """
    if not human:
        return float("nan")
    rank = {word: place for place, word in enumerate(human, start=1)}
    reachable = sum(1 / place for place in range(1, min(k, len(human)) + 1))
    return sum(1 / rank[word] for word in list(generated)[:k] if word in rank) / reachable


def recall_strength(generated: Sequence[str], strengths: Mapping[str, float], k: int) -> float:
    """Share of people's response mass that the first k responses hit; NaN without people's.

    >>> round(recall_strength(["cat", "moon"], {"cat": 0.3, "bone": 0.1}, 5), 2)
    0.75
    """
    total = sum(strengths.values())
    return sum(strengths.get(word, 0.0) for word in list(generated)[:k]) / total if total else float("nan")


def correlate_ranks(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman correlation, in [-1, 1]; NaN for fewer than three pairs or where one side is all alike."""
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def score_agreement(lists: pd.DataFrame, norms: pd.DataFrame, language: Language, *, k: int) -> pd.DataFrame:
    """`AGREEMENT_MEASURES` of every list (`cue, responses`; further columns are kept): `measure, value`, NaN where not defined.

    `rank_correlation`: the order of the list with people's strengths over the shared responses; `jaccard`: of the first k with people's
    k strongest.
    """
    human, rows = map_strengths(norms.sort_values(["cue", "rank"]), language), []
    for row in lists.to_dict("records"):
        words = list(dict.fromkeys(language.normalise(word) for word in row.pop("responses")))
        strengths = human.get(row["cue"], {})
        answers, first = list(strengths), words[:k]
        shared = [word for word in words if word in strengths]
        union = set(first) | set(answers[:k])
        values = (
            weigh_ranks(words, answers, k), recall_strength(words, strengths, k),
            correlate_ranks(range(len(shared), 0, -1), [strengths[word] for word in shared]),
            len(set(first) & set(answers[:k])) / len(union) if union else float("nan"),
        )  # fmt: skip
        rows += [{**row, "measure": measure, "value": value} for measure, value in zip(AGREEMENT_MEASURES, values, strict=True)]
    return pd.DataFrame(rows)


def summarise_agreement(cfg: Config, lists: pd.DataFrame, people: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """Measures beyond Precision@5 of every stage, means over the test cues with intervals over families.

    `lists` (of one seed), `people`, `families`: see `score_conditions`. Returns `model, culture, measure` (AGREEMENT_MEASURES),
    `stage, value, low, high, n`; n counts the cues for which the measure is defined.
    """
    parts, by = [], ["model", "culture", "measure", "stage"]
    for culture, own in people.items():
        mine = lists.loc[lists["culture"] == culture, ["model", "stage", "cue", "responses"]]
        parts.append(score_agreement(mine, own.norms, cfg.language_of(culture), k=RATED).assign(culture=culture))
    scored = add_families(pd.concat(parts), families).sort_values(by[:3], kind="stable")
    return summarise(scored, by, "value", unit="family", **cfg.bootstrap)


def compare_matchings(cfg: Config, lists: pd.DataFrame, people: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """Mean P@5 of every condition, exact and by lemma, with the paired difference and its interval over families.

    `lists` (of one seed), `people`, `families`: see `score_conditions`. Returns `model, culture, reading, stage, exact, lemma,
    difference, low, high, n`.
    """
    by = ["model", "culture", "reading", "stage"]
    scored = pd.concat([
        score_conditions(cfg, lists, people, families, matching=name).query("k == @RATED").assign(matching=name)
        for name in MATCHINGS
    ]).sort_values(by[:3], kind="stable")  # fmt: skip
    pairs = [("lemma", "exact")]
    gaps = compare(scored, by, "precision", over="matching", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
    means = scored.groupby([*by, "matching"], sort=False)["precision"].mean().unstack().reset_index()
    table = means.merge(gaps.rename(columns={"value": "difference"}), on=by, sort=False)
    return table[[*by, *MATCHINGS, "difference", "low", "high", "n"]]


def spread_precision(scored: pd.DataFrame) -> pd.DataFrame:
    """P@5 of every stage that is trained with every seed, over all test cues, from `score_conditions`; controls have one training.

    Returns `model, culture, stage, reading`, the columns of `stats.spread_seeds`.
    """
    part = scored[(scored["k"] == RATED) & scored["stage"].isin(TARGETS)]
    return spread_seeds(part, ["model", "culture", "stage", "reading"], "precision")
