"""Precision@K of lists, its bounds, and paired differences between stages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nlargest
from itertools import product

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.config.stages import list_contrasts
from align_utils.norms.split import CultureNorms, fold_words
from align_utils.norms.strengths import normalise_words
from align_utils.stats import compare, repeat_runs, summarise

# What counts as right: all that people gave, or their K strongest.
PRECISION_READINGS = ("attested", "top")
# The K of the headline figures: responses of a model's list that count.
RATED = 5
# What has learnt nothing beyond counting in the training norms does not beat the graph; what it adds to a model, the model lacks.
GRAPH_CONTRASTS = (("few_shot", "graph"), ("sft", "graph"), ("ppo", "graph"), ("sft_graph", "sft"))
# Fewer people than this cannot be halved into two panels.
FEWEST_TRIALS = 4


def precision_at_k(generated: Sequence[str], human: Sequence[str], k: int) -> float:
    """Share of the first k distinct generated responses that the human list holds, in [0, 1]; missing responses count as wrong.

    Words are compared as they are, so normalise both sides first (`Language.normalise`): the model's in the order given, and people's
    that count as right. k, at least 1, is the denominator whatever the length of `generated`. Source: ALIGN, Precision@5 (abstract);
    the reading of 'right' is ours: see `score_lists`.

    >>> precision_at_k(["cat", "bone", "moon"], ["cat", "bone", "bark"], 5)
    0.4
    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> precision_at_k(["Cat"], ["cat"], 1), precision_at_k([en.normalise("Cat")], ["cat"], 1)
    (0.0, 1.0)
    """
    return len(set(list(dict.fromkeys(generated))[:k]) & set(human)) / k


def score_lists(
    lists: pd.DataFrame, norms: pd.DataFrame, language: Language, *, ks: Sequence[int], min_count: int, matching: str = "exact"
) -> pd.DataFrame:
    """Precision@K of generated lists in both readings.

    `lists`: `cue` and `responses` (list of str in order); further columns are kept. `norms`: people's, of the same culture
    (`cue, response, count, rank`). In the reading `attested` every human response given at least `min_count` times is right; in
    `top` only the K strongest of these (`take_strongest`). `matching` ('exact' or 'lemma'): see `norms.split.fold_words`; human
    responses that fold alike are one response with the sum of their counts.

    Returns the columns of `lists` without `responses`, plus `reading`, `k`, `precision` in [0, 1]; one row a list, reading and
    K.
    """
    norms = norms[norms["cue"].isin(set(lists["cue"]))]
    forms = fold_words((word for words in lists["responses"] for word in words), language, matching)
    rights = {}
    for cue, given in map_strengths(norms, language, "count", matching=matching).items():
        counts = {word: count for word, count in given.items() if count >= min_count}
        rights |= {(cue, k): (list(counts), take_strongest(counts, k)) for k in ks}
    rows = []
    for row in lists.to_dict("records"):
        generated = [forms[word] for word in row.pop("responses")]
        for k in ks:
            for reading, right in zip(PRECISION_READINGS, rights.get((row["cue"], k), ([], [])), strict=True):
                rows.append({**row, "reading": reading, "k": k, "precision": precision_at_k(generated, right, k)})
    return pd.DataFrame(rows)


def take_strongest(counts: Mapping[str, float], k: int) -> list[str]:
    """The k responses that most people gave, and all that as many gave as the last of them.

    >>> take_strongest({"cat": 9, "bone": 4, "bark": 4, "moon": 1}, 2)
    ['cat', 'bone', 'bark']
    """
    least = min(nlargest(k, counts.values()), default=0)
    return [word for word, count in counts.items() if count >= least]


def list_answered(own: CultureNorms) -> list[str]:
    """Test cues that at least FEWEST_TRIALS participants answered, in the file of their trials; none where there is no such file."""
    if own.trials is None:
        return []
    sizes = own.trials[(own.trials[["R1", "R2", "R3"]] != "").any(axis=1)].groupby("cue").size()
    return [cue for cue in own.cues["test"] if sizes.get(cue, 0) >= FEWEST_TRIALS]


def estimate_ceiling(
    trials: pd.DataFrame, cues: Sequence[str], language: Language, *, ks: Sequence[int], splits: int, seed: int
) -> pd.DataFrame:
    """Human ceiling: one half of the participants plays the model, the other half is the norm (mean of `splits` random halvings).

    A lower bound, since half a panel attests fewer responses than a whole one; languages are comparable only at equal panels. Returns
    `cue, reading, k, precision, people` (size of the smaller half).
    """
    rng, rows = np.random.default_rng(seed), []
    for cue, group in trials[trials["cue"].isin(set(cues))].groupby("cue"):
        answers = [{language.normalise(word) for word in trial if word} for trial in group[["R1", "R2", "R3"]].to_numpy()]
        scores = np.zeros((len(ks), 2))
        for _ in range(splits):
            halves = np.array_split(rng.permutation(len(answers)), 2)
            playing, norm = (Counter(word for person in half for word in answers[person]) for half in halves)
            said = sorted(playing, key=lambda word, counts=playing: (-counts[word], word))
            scores += [[precision_at_k(said, norm, k), precision_at_k(said, take_strongest(norm, k), k)] for k in ks]
        for (k, reading), score in zip(product(ks, PRECISION_READINGS), scores.flatten() / splits, strict=True):
            rows.append({"cue": cue, "reading": reading, "k": k, "precision": score, "people": len(answers) // 2})
    return pd.DataFrame(rows, columns=["cue", "reading", "k", "precision", "people"])


def find_reverse_pairs(
    norms: pd.DataFrame, cues: Sequence[str], train: Sequence[str], language: Language, *, k: int
) -> set[str]:
    """Held-out cues of which a top-k pair (cue, response), ties with rank k among them, stands reversed among the training pairs."""
    forms = norms.assign(a=normalise_words(norms["cue"], language), b=normalise_words(norms["response"], language))
    training = forms[forms["cue"].isin(set(train))]
    known = set(zip(training["a"], training["b"], strict=True))
    asked = forms[forms["cue"].isin(set(cues))]
    top = asked[asked.groupby("cue")["count"].rank(method="min", ascending=False) <= k]
    return {row.cue for row in top.itertuples() if (row.b, row.a) in known}


def map_strengths(
    norms: pd.DataFrame, language: Language, column: str = "strength", *, matching: str = "exact"
) -> dict[str, dict[str, float]]:
    """Cue to {response as `fold_words` writes it: strength, or another column}; spellings that fold alike are added up."""
    forms = fold_words(norms["response"], language, matching)
    table: dict[str, dict[str, float]] = {}
    for cue, word, value in zip(norms["cue"], norms["response"], norms[column], strict=True):
        given = table.setdefault(cue, {})
        given[forms[word]] = given.get(forms[word], 0) + value
    return table


def add_families(frame: pd.DataFrame, families: dict) -> pd.DataFrame:
    """The unit that intervals are drawn over, beside `culture, cue`."""
    return frame.assign(family=[families[key] for key in zip(frame["culture"], frame["cue"], strict=True)])


def score_conditions(
    cfg: Config, lists: pd.DataFrame, people: dict[str, CultureNorms], families: dict, *, ks: Sequence[int] = (RATED,),
    matching: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Precision of every stage and baseline on the test cues.

    `lists` are from `associate_run` and `list_baselines`, one under the other, `people` and `families` from
    `norms.load_run` and `norms.map_families`. Of `ks`, lists that end with their fifth response have a precision at 5 at most.
    `matching` ('exact' or 'lemma') is by default the profile's.

    Returns `model, culture, stage, seed, cue, reading, k, precision, family, reverse` (a human top-5 pair stands reversed in
    training), `answered` (so many people answered the cue in the participants' file that it has a human ceiling).
    """
    settings, parts = cfg.profile.lexical, []
    for culture, own in people.items():
        mine = lists.loc[lists["culture"] == culture, ["model", "stage", "seed", "cue", "responses"]]
        scored = score_lists(
            repeat_runs(mine, ["model", "stage"]), own.norms, cfg.language_of(culture), ks=ks, min_count=settings.min_count,
            matching=matching or settings.matching,
        )  # fmt: skip
        reverse = find_reverse_pairs(own.norms, own.cues["test"], own.cues["train"], cfg.language_of(culture), k=RATED)
        marks = {"reverse": scored["cue"].isin(reverse), "answered": scored["cue"].isin(list_answered(own))}
        parts.append(scored.assign(culture=culture, **marks))
    return add_families(pd.concat(parts, ignore_index=True), families)


def summarise_precision(scored: pd.DataFrame, ceiling: pd.DataFrame | None = None, **bootstrap) -> pd.DataFrame:
    """Mean precision with intervals over families (and seeds): `scored` and `ceiling` are from `score_conditions` and `summarise_ceiling`.

    Returns `model, culture, reading, stage, k, value, low, high, n`, a culture's rows together, and `subset`: 'all' test cues,
    'no_reverse', those without a reversed training pair, and 'answered', those that people answered, so that a human ceiling
    stands beside them.
    """
    by = ["model", "culture", "reading", "stage", "k"]
    parts = [
        summarise(part, by, "precision", unit="family", run="seed", **bootstrap).assign(subset=subset)
        for subset, part in [*_subset(scored), ("answered", scored[scored["answered"]])]
    ]
    table = pd.concat([*parts, ceiling])  # which leaves out a None
    return table.iloc[np.argsort(table.groupby(by[:2], sort=False).ngroup(), kind="stable")].reset_index(drop=True)


def summarise_ceiling(
    cfg: Config, people: dict[str, CultureNorms], families: dict, *, ks: Sequence[int] = (RATED,)
) -> pd.DataFrame:
    """Human split-half ceiling on the cues of `list_answered`: a half is judged by the open answers of the other; no rows without trials.

    `people`, `families`: see `score_conditions`. Returns the columns of `summarise_precision`, stage `human` for every model,
    subset `answered`.
    """
    settings, by = cfg.profile.lexical, ["model", "culture", "reading", "stage", "k"]
    parts = [pd.DataFrame(columns=[*by, "cue", "precision"])]
    for culture, own in people.items():
        if cues := list_answered(own):
            ceiling = estimate_ceiling(
                own.trials, cues, cfg.language_of(culture), ks=ks, splits=settings.ceiling_splits, seed=cfg.profile.seed
            )
            parts += [ceiling.assign(culture=culture, stage="human", model=model) for model in cfg.models]
    scored = add_families(pd.concat(parts[1:] or parts), families)
    return summarise(scored, by, "precision", unit="family", **cfg.bootstrap).assign(subset="answered")


def contrast_stages(cfg: Config, scored: pd.DataFrame, by: list[str], value: str, *, run: str | None = None) -> pd.DataFrame:
    """Paired differences between stages, and from the graph, cue by cue: intervals and sign-flip p over families.

    `p_holm` is adjusted over the cultures and comparisons of one group of `by` without the culture.
    """
    pairs, family = [*list_contrasts(cfg), *GRAPH_CONTRASTS], [name for name in by if name != "culture"]
    # Without any of them the table still has its columns.
    asked = [pair for pair in pairs if set(pair) <= set(scored["stage"])] or pairs
    return compare(
        scored, by, value, over="stage", pairs=asked, key="cue", unit="family", run=run, family=family, **cfg.bootstrap
    )


def summarise_measures(cfg: Config, scored: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means over cues of each measure with intervals over families (and seeds), and `contrast_stages` (`p_holm` within one measure).

    `scored` has `model, culture, measure, stage, cue, value, family` and perhaps `seed`, the means `model, culture, measure, stage, value, low, high, n`.
    """
    by, run = ["model", "culture", "measure"], "seed" if "seed" in scored else None
    means = summarise(scored, [*by, "stage"], "value", unit="family", run=run, **cfg.bootstrap)
    return means, contrast_stages(cfg, scored, by, "value", run=run)


def compare_stages(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in P@5 between the stages of the run, and from the graph, per reading and subset, from `score_conditions`.

    Returns `model, culture, reading, comparison` ('sft - few_shot'), `value, low, high, n, effect, p, p_holm, subset`; `p_holm`
    is adjusted over the cultures and comparisons of one model, reading and subset.
    """
    by, parts = ["model", "culture", "reading"], _subset(scored[scored["k"] == RATED])
    tables = [contrast_stages(cfg, part, by, "precision", run="seed").assign(subset=subset) for subset, part in parts]
    return pd.concat(tables, ignore_index=True)


def _subset(scored: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [("all", scored), ("no_reverse", scored[~scored["reverse"]])]
