"""Many answers against many answers: a model's simulated participants beside people, as pure functions of strengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import gammaln, rel_entr
from scipy.stats import rankdata

from align_utils import lexical, norms
from align_utils.config import Language

MEASURES = (
    "precision_top", "precision_attested", "js_distance", "shared_mass", "attested_share", "rank_correlation", "entropy",
    "entropy_gap", "distinct", "distinct_gap",
)  # fmt: skip
# A panel's strongest responses that stand for its list.
STRONGEST = 5


def measure_distance(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon distance, base 2: the root of the divergence, in [0, 1].

    Parameters
    ----------
    p, q : array-like, shape (n,)
        Shares of the same n responses, each summing to 1.

    Source
    ------
    Endres and Schindelin (2003), IEEE Transactions on Information Theory 49(7).

    Examples
    --------
    >>> measure_distance([1, 0], [0, 1]), measure_distance([0.5, 0.5], [0.5, 0.5])
    (1.0, 0.0)
    """
    p, q = np.asarray(p, dtype=float), np.asarray(q, dtype=float)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / (2 * np.log(2))
    return float(np.sqrt(np.clip(divergence, 0, 1)))


def correlate_strengths(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman correlation, in [-1, 1]; NaN for fewer than three pairs or where one side is all alike."""
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def rarefy(counts: Sequence[int], size: int) -> tuple[float, float]:
    """Expected number of distinct responses, and their entropy in bits, among `size` responses drawn without replacement.

    Exact: the count of a response that was given c times of N follows the hypergeometric distribution. A sample shows fewer
    responses than the whole, so two sets of answers can be compared only at one size.

    Parameters
    ----------
    counts : array-like of int
        How often each response was given; N is their sum.
    size : int
        From 1 to N; at N the observed values come back.

    Source
    ------
    Hurlbert (1971), Ecology 52(4) (rarefaction of the number of kinds); the entropy is the same expectation.

    Examples
    --------
    >>> rarefy([2, 1, 1], 4)
    (3.0, 1.5)
    >>> distinct, entropy = rarefy([1, 1, 2], 2)  # of the six pairs, five hold two different responses
    >>> round(distinct, 4), round(entropy, 4)
    (1.8333, 0.8333)
    """
    values, copies = np.unique(np.asarray(counts, dtype=int), return_counts=True)
    total = int(values @ copies)
    if not 1 <= size <= total:
        raise ValueError(f"rarefy: size {size} is not from 1 to the number of responses, {total}")
    given, drawn = values[:, None], np.arange(1, min(size, values.max()) + 1)[None, :]
    possible = (drawn <= given) & (size - drawn <= total - given)
    # Impossible cells get harmless arguments and no weight.
    k, rest = np.where(possible, drawn, 0), np.where(possible, size - drawn, 0)
    chance = np.exp(_log_choose(given, k) + _log_choose(total - given, rest) - _log_choose(total, size)) * possible
    share = drawn / size
    distinct = copies @ chance.sum(axis=1)
    return float(distinct), float(abs(copies @ (chance * share * -np.log2(share)).sum(axis=1)))


def compare_populations(
    answers: pd.DataFrame, people: pd.DataFrame, cues: Sequence, language: Language, *, min_count: int
) -> pd.DataFrame:
    """Every measure of one set of answers against people's, cue by cue.

    Parameters
    ----------
    answers, people : DataFrame
        Strengths of either side, both from `norms.build_strengths` (`cue, response, count, rank`).
    cues : sequence
        Those to judge; people must have answered them.
    min_count : int
        As in `lexical.score_lists`.

    Returns
    -------
    DataFrame
        `cue, measure, value`; one row a cue and measure of MEASURES. Precision is that of the five strongest responses; shares,
        distance (0: alike, 1: nothing shared) and correlation are between the two distributions; `attested_share` is the share of
        the answers that people gave too: the precision of answers as they are drawn; `entropy` (bits) and `distinct`
        of the answers, and how much more they are (`_gap`, below 0: less varied) than people's at the same number of responses.
        Without answers to a cue precision, shared mass and attested share are 0, the others NaN.
    """
    strongest = (
        answers[answers["rank"] <= STRONGEST].sort_values(["cue", "rank"]).groupby("cue")["response"].agg(list).to_dict()
    )
    lists = pd.DataFrame({"cue": list(cues), "responses": [strongest.get(cue, []) for cue in cues]})
    scored = lexical.score_lists(lists, people, language, ks=[STRONGEST], min_count=min_count)
    precision = scored.set_index(["cue", "reading"])["precision"].to_dict()
    mine, theirs = _count(answers, language), _count(people, language)
    rows = []
    for cue in cues:
        values = _compare(mine.get(cue, {}), theirs[cue])
        values |= {f"precision_{reading}": precision[cue, reading] for reading in lexical.READINGS}
        rows += [{"cue": cue, "measure": measure, "value": values[measure]} for measure in MEASURES]
    return pd.DataFrame(rows, columns=["cue", "measure", "value"])


def compare_panels(
    trials: pd.DataFrame, cues: Sequence[str], language: Language, *, size: int, splits: int, min_count: int, seed: int
) -> pd.DataFrame:
    """The human level at equal size: a panel of `size` participants plays the model, the other people are the norm.

    Panels are drawn anew for every cue and split; of a cue with fewer than twice `size` people half of them play. As with
    `lexical.estimate_ceiling` the norm lacks the panel, so this is a lower bound.

    Returns
    -------
    DataFrame
        As `compare_populations`, averaged over the splits, and `people` (size of the panel).
    """
    rng = np.random.default_rng(seed)
    groups, panels, others, codes = dict(tuple(trials.groupby("cue"))), [], [], {}
    for cue in cues:
        group = groups[cue]
        playing = min(size, len(group) // 2)
        for _ in range(splits):
            # A number stands for a cue and split, so that all splits are counted at once.
            code, order = len(codes), rng.permutation(len(group))
            codes[code] = (cue, playing)
            panels.append(group.iloc[order[:playing]].assign(cue=code))
            others.append(group.iloc[order[playing:]].assign(cue=code))
    answers, people = (norms.build_strengths(pd.concat(part), language, "R123") for part in (panels, others))
    table = compare_populations(answers, people, list(codes), language, min_count=min_count)
    table["people"] = [codes[code][1] for code in table["cue"]]
    table["cue"] = [codes[code][0] for code in table["cue"]]
    return table.groupby(["cue", "measure"], sort=False, as_index=False).agg(
        value=("value", "mean"), people=("people", "first")
    )


def draw_frequency(
    frame: pd.DataFrame, train: Sequence[str], cues: Sequence[str], *, size: int, words: int, seed: int
) -> pd.DataFrame:
    """Trials of people who ignore the cue: distinct words drawn in proportion to their frequency over the training cues."""
    counts = frame[frame["cue"].isin(set(train))].groupby("response")["count"].sum().sort_index()
    rng, share = np.random.default_rng(seed), (counts / counts.sum()).to_numpy()
    rows = []
    for cue in cues:
        for number in range(size):
            drawn = rng.choice(counts.index.to_numpy(), size=min(words, len(counts)), replace=False, p=share)
            rows.append([number + 1, cue, *[str(word) for word in drawn], "", ""][:5])
    return pd.DataFrame(rows, columns=["participant", "cue", "R1", "R2", "R3"])


def _log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _count(strengths: pd.DataFrame, language: Language) -> dict:
    forms = strengths["response"].map({word: language.normalise(word) for word in strengths["response"].unique()})
    table: dict = {}
    for cue, form, count in zip(strengths["cue"], forms, strengths["count"], strict=True):
        given = table.setdefault(cue, {})
        given[form] = given.get(form, 0) + int(count)
    return table


def _compare(mine: dict[str, int], theirs: dict[str, int]) -> dict[str, float]:
    if not mine:
        return dict.fromkeys(MEASURES, float("nan")) | {"shared_mass": 0.0, "attested_share": 0.0}
    both = list(dict.fromkeys([*theirs, *mine]))
    p, q = (np.array([side.get(word, 0) for word in both], dtype=float) for side in (mine, theirs))
    p, q, shared = p / p.sum(), q / q.sum(), (p > 0) & (q > 0)
    # The model may have been asked more often than people were: both are brought to the smaller number of responses.
    size = min(sum(mine.values()), sum(theirs.values()))
    (distinct, entropy), (kinds, bits) = (rarefy(list(side.values()), size) for side in (mine, theirs))
    return {
        "js_distance": measure_distance(p, q), "shared_mass": float(np.minimum(p, q).sum()), "attested_share": float(p[shared].sum()),
        "rank_correlation": correlate_strengths(p[shared], q[shared]), "entropy": entropy, "entropy_gap": entropy - bits,
        "distinct": distinct, "distinct_gap": distinct - kinds,
    }  # fmt: skip
