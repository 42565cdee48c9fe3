"""Precision@K, its bounds and baselines, agreement beyond it, and paired differences between stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Reward
from align_utils.config.stages import list_contrasts, list_trained
from align_utils.norms.split import MATCHINGS, CultureNorms, fold_words
from align_utils.stats import ALONE, adjust_holm, compare, spread_seeds, summarise
from align_utils.store.page import list_records

PRECISION_READINGS = ("attested", "top")


def precision_at_k(generated: Sequence[str], human: Sequence[str], k: int) -> float:
    """Share of the first k distinct generated responses that the human list holds; missing responses count as wrong.

    Parameters
    ----------
    generated : sequence of str
        Distinct normalised responses in the order given, any length.
    human : sequence of str
        Normalised human responses that count as right.
    k : int
        At least 1; the denominator whatever the length of `generated`.

    Returns
    -------
    float
        In [0, 1].

    Source
    ------
    ALIGN, Precision@5 (abstract); the reading of 'right' is ours: see `score_lists`.

    Examples
    --------
    >>> precision_at_k(["cat", "bone", "moon"], ["cat", "bone", "bark"], 5)
    0.4
    """
    return len(set(list(dict.fromkeys(generated))[:k]) & set(human)) / k


def score_lists(
    lists: pd.DataFrame, norms: pd.DataFrame, language: Language, *, ks: Sequence[int], min_count: int, matching: str = "exact"
) -> pd.DataFrame:
    """Precision@K of generated lists in both readings.

    Parameters
    ----------
    lists : DataFrame
        `cue` and `responses` (list of str in order), one row a cue; further columns are kept.
    norms : DataFrame
        Human norms of the same culture (`cue, response, count, rank`).
    ks : sequence of int
    min_count : int
        `attested`: every human response given at least so often is right. `top`: only the K strongest (ties are broken by code
        points of the response).
    matching : {'exact', 'lemma'}
        See `matching.fold_words`; human responses that fold alike are one response with the sum of their counts.

    Returns
    -------
    DataFrame
        Columns of `lists` without `responses`, plus `reading`, `k`, `precision` in [0, 1]; one row a cue, reading and K.
    """
    norms = norms[norms["cue"].isin(set(lists["cue"]))]
    forms = fold_words([*norms["response"], *(word for words in lists["responses"] for word in words)], language, matching)
    human = _group_responses(norms, forms, min_count)
    rows = []
    for row in lists.to_dict("records"):
        generated = [forms[word] for word in row.pop("responses")]
        answers = human.get(row["cue"], [])
        for k in ks:
            for reading, right in (("attested", answers), ("top", answers[:k])):
                rows.append({**row, "reading": reading, "k": k, "precision": precision_at_k(generated, right, k)})
    return pd.DataFrame(rows)


def estimate_ceiling(
    trials: pd.DataFrame, cues: Sequence[str], language: Language, *, ks: Sequence[int], splits: int, seed: int
) -> pd.DataFrame:
    """Human ceiling: one half of the participants plays the model, the other half is the norm.

    A lower bound, since half a panel attests fewer responses than a whole one; languages are comparable only at equal panels.

    Parameters
    ----------
    trials : DataFrame
        `cue, R1, R2, R3` with empty strings for missing.
    cues : sequence of str
        Those to judge; cues without at least four trials are left out.
    ks : sequence of int
    splits, seed : int
        Random halvings averaged per cue; seed.

    Returns
    -------
    DataFrame
        `cue, reading, k, precision, people` (size of the smaller half).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for cue, group in trials[trials["cue"].isin(set(cues))].groupby("cue"):
        answers = [
            {language.normalise(word) for word in trial if word} for trial in group[["R1", "R2", "R3"]].itertuples(index=False)
        ]
        if len(answers) < 4:
            continue
        scores = np.zeros((len(ks), 2))
        for _ in range(splits):
            order = rng.permutation(len(answers))
            one, other = (_order_by_count([answers[i] for i in half]) for half in np.array_split(order, 2))
            scores += [[precision_at_k(one, other, k), precision_at_k(one, other[:k], k)] for k in ks]
        rows += [
            {"cue": cue, "reading": reading, "k": k, "precision": scores[i, j] / splits, "people": len(answers) // 2}
            for i, k in enumerate(ks)
            for j, reading in enumerate(PRECISION_READINGS)
        ]
    return pd.DataFrame(rows, columns=["cue", "reading", "k", "precision", "people"])


def list_frequency_baseline(norms: pd.DataFrame, train: Sequence[str], cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """The same answer to every cue: the k commonest responses over the training cues."""
    counts = norms[norms["cue"].isin(set(train))].groupby("response")["count"].sum()
    common = counts.sort_index().sort_values(ascending=False, kind="stable").index[:k].tolist()
    return pd.DataFrame({"cue": list(cues), "responses": [common] * len(cues)})


def list_chance_baseline(norms: pd.DataFrame, cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """Another held-out cue's strongest human responses: the cue half the sorted list away, since neighbours share characters."""
    ordered = sorted(cues)
    groups = dict(tuple(norms[norms["rank"] <= k].groupby("cue")["response"]))
    other = {cue: ordered[(i + len(ordered) // 2) % len(ordered)] for i, cue in enumerate(ordered)}
    return pd.DataFrame({"cue": list(cues), "responses": [groups[other[cue]].tolist() for cue in cues]})


def find_reverse_pairs(
    norms: pd.DataFrame, cues: Sequence[str], train: Sequence[str], language: Language, *, k: int
) -> set[str]:
    """Held-out cues of which a top-k pair (cue, response) stands reversed (response, cue) among the training pairs."""
    forms = norms.assign(
        a=norms["cue"].map(language.normalise), b=norms["response"].map(language.normalise)
    )  # fmt: skip
    training = forms[forms["cue"].isin(set(train))]
    known = set(zip(training["a"], training["b"], strict=True))
    top = forms[forms["cue"].isin(set(cues)) & (forms["rank"] <= k)]
    return {row.cue for row in top.itertuples() if (row.b, row.a) in known}


def score_reward(responses: Sequence[str], human: dict[str, float], language: Language, reward: Reward) -> float:
    """Reward of one generated list, in [0, 1]: does it hold what native speakers answer, and what they answer most?

    `precision * P@k + strength * (sum of strengths of the hits / largest sum that k responses could reach)`, over the first
    k distinct responses. Duplicates, copies of the cue and what is no list were dropped by `prompts.parse_list` before, so
    they earn nothing.

    Parameters
    ----------
    responses : sequence of str
        Parsed list.
    human : dict
        Normalised response to strength, for this cue (training or validation cues only).

    Examples
    --------
    >>> from align_utils import config
    >>> cfg = config.load("smoke"); en = cfg.languages["en"]
    >>> parts = config.Reward(k=2, precision=0.5, strength=0.5)
    >>> score_reward(["cat", "moon"], {"cat": 0.3, "bone": 0.1}, en, parts)
    0.625
    """
    precision, strength = split_reward(responses, human, language, k=reward.k)
    return reward.precision * precision + reward.strength * strength


def split_reward(responses: Sequence[str], human: dict[str, float], language: Language, *, k: int) -> tuple[float, float]:
    """The two parts of `score_reward`, each in [0, 1]: P@k, and the strength of the hits over the most that k could reach."""
    forms = list(dict.fromkeys(language.normalise(word) for word in responses))[:k]
    reachable = sum(sorted(human.values(), reverse=True)[:k])
    weight = sum(human.get(form, 0.0) for form in forms) / reachable if reachable else 0.0
    return precision_at_k(forms, list(human), k), weight


def map_strengths(norms: pd.DataFrame, language: Language) -> dict[str, dict[str, float]]:
    """Cue to {normalised response: strength}, the form `score_reward` reads."""
    forms = norms["response"].map({word: language.normalise(word) for word in norms["response"].unique()})
    table: dict[str, dict[str, float]] = {}
    for cue, form, strength in zip(norms["cue"], forms, norms["strength"], strict=True):
        table.setdefault(cue, {})[form] = strength
    return table


def _group_responses(norms: pd.DataFrame, forms: dict[str, str], min_count: int) -> dict[str, list[str]]:
    merged = norms.assign(form=norms["response"].map(forms)).groupby(["cue", "form"], sort=False)
    merged = merged.agg(count=("count", "sum"), rank=("rank", "min")).reset_index()
    merged = merged[merged["count"] >= min_count].sort_values(["count", "rank"], ascending=[False, True])
    return merged.groupby("cue")["form"].agg(list).to_dict()


def _order_by_count(answers: list[set[str]]) -> list[str]:
    counts: dict[str, int] = {}
    for words in answers:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))


AGREEMENT_MEASURES = ("pwr", "strength_recall", "rank_correlation", "jaccard")


def weigh_ranks(generated: Sequence[str], human: Sequence[str], k: int) -> float:
    """PWR@K: hits weighted by the reciprocal of their human rank, over the most that k responses could reach.

    Parameters
    ----------
    generated : sequence of str
        Distinct normalised responses in the order given.
    human : sequence of str
        Normalised human responses, strongest first.
    k : int

    Returns
    -------
    float
        In [0, 1]; NaN where people gave nothing.

    Examples
    --------
    >>> round(weigh_ranks(["bone", "moon"], ["cat", "bone", "bark"], 2), 3)  # (1/2) / (1 + 1/2)
    0.333
    """
    if not human:
        return float("nan")
    rank = {word: place for place, word in enumerate(human, start=1)}
    reachable = sum(1 / place for place in range(1, min(k, len(human)) + 1))
    return sum(1 / rank[word] for word in list(generated)[:k] if word in rank) / reachable


def recall_strength(generated: Sequence[str], strengths: Mapping[str, float], k: int) -> float:
    """Share of people's response mass that the first k responses hit.

    Returns
    -------
    float
        In [0, 1]; NaN where people gave nothing.

    Examples
    --------
    >>> round(recall_strength(["cat", "moon"], {"cat": 0.3, "bone": 0.1}, 5), 2)
    0.75
    """
    total = sum(strengths.values())
    return sum(strengths.get(word, 0.0) for word in list(generated)[:k]) / total if total else float("nan")


def correlate_ranks(generated: Sequence[str], strengths: Mapping[str, float]) -> float:
    """Spearman correlation of the order of a list with people's strengths, over the shared responses.

    Returns
    -------
    float
        In [-1, 1], positive where the earlier responses are the stronger ones; NaN for fewer than three shared responses or
        where people's strengths are all alike.
    """
    shared = [(place, strengths[word]) for place, word in enumerate(generated) if word in strengths]
    if len(shared) < 3 or len({strength for _, strength in shared}) == 1:
        return float("nan")
    places, values = pd.DataFrame(shared).rank().to_numpy().T
    return float(np.corrcoef(-places, values)[0, 1])


def score_agreement(lists: pd.DataFrame, norms: pd.DataFrame, language: Language, *, k: int) -> pd.DataFrame:
    """Every measure for every list.

    Parameters
    ----------
    lists : DataFrame
        `cue` and `responses` (list of str in order); further columns are kept.
    norms : DataFrame
        `cue, response, strength, rank` of the same culture.

    Returns
    -------
    DataFrame
        Columns of `lists` without `responses`, `measure` (MEASURES; `jaccard` is that of the first k with people's k strongest)
        and `value`, NaN where a measure is not defined.
    """
    ordered = norms.sort_values(["cue", "rank"])
    forms = ordered["response"].map({word: language.normalise(word) for word in ordered["response"].unique()})
    human: dict[str, dict[str, float]] = {}
    for cue, form, strength in zip(ordered["cue"], forms, ordered["strength"], strict=True):
        # Spellings that normalise alike are one response; it stands where the stronger one stood.
        table = human.setdefault(cue, {})
        table[form] = table.get(form, 0.0) + strength
    rows = []
    for row in lists.to_dict("records"):
        words = list(dict.fromkeys(language.normalise(word) for word in row.pop("responses")))
        strengths = human.get(row["cue"], {})
        answers, first = list(strengths), words[:k]
        union = set(first) | set(answers[:k])
        values = (
            weigh_ranks(words, answers, k), recall_strength(words, strengths, k), correlate_ranks(words, strengths),
            len(set(first) & set(answers[:k])) / len(union) if union else float("nan"),
        )  # fmt: skip
        rows += [{**row, "measure": measure, "value": value} for measure, value in zip(AGREEMENT_MEASURES, values, strict=True)]
    return pd.DataFrame(rows)


PRECISION_KEYS = ["model", "culture", "reading", "stage", "k"]
# The K of the headline figures.
RATED = 5


def score_conditions(
    cfg: Config, lists: pd.DataFrame, stage: dict[str, CultureNorms], families: dict, *, matching: str | None = None
) -> pd.DataFrame:
    """Precision of every stage and of the two baselines on the test cues.

    Parameters
    ----------
    lists : DataFrame
        From `associations.load_associations`.
    stage, families : dict
        From `pairs.load_run` and `pairs.map_families`.
    matching : {'exact', 'lemma'}, optional
        Default: the profile's `lexical.matching`.

    Returns
    -------
    DataFrame
        `model, culture, stage, seed, cue, reading, k, precision, family, reverse` (a human top-5 pair stands reversed in training).
    """
    settings, parts = cfg.profile.lexical, []
    for culture, data in stage.items():
        frame, cues, language = data.norms, data.cues, cfg.language_of(culture)
        most = max(settings.ks)
        baselines = {
            "frequency": list_frequency_baseline(frame, cues["train"], cues["test"], k=most),
            "chance": list_chance_baseline(frame, cues["test"], k=most),
        }
        extra = [
            part.assign(stage=name, model=model, seed=cfg.profile.seed)
            for name, part in baselines.items()
            for model in cfg.models
        ]
        mine = lists.loc[lists["culture"] == culture, ["model", "stage", "seed", "cue", "responses"]]
        conditions = _repeat_runs(pd.concat([mine, *extra]))
        scored = score_lists(
            conditions, frame, language, ks=settings.ks, min_count=settings.min_count, matching=matching or settings.matching
        )
        reverse = find_reverse_pairs(frame, cues["test"], cues["train"], language, k=RATED)
        parts.append(scored.assign(culture=culture, reverse=scored["cue"].isin(reverse)))
    scored = pd.concat(parts, ignore_index=True)
    scored["family"] = [families[key] for key in zip(scored["culture"], scored["cue"], strict=True)]
    return scored


def score_conditions_agreement(
    cfg: Config, lists: pd.DataFrame, stage: dict[str, CultureNorms], families: dict
) -> pd.DataFrame:
    """Measures beyond Precision@5 (`agreement.MEASURES`) of every stage, means over the test cues with intervals over families.

    Returns
    -------
    DataFrame
        `model, culture, measure, stage, value, low, high, n`; n counts the cues for which the measure is defined.
    """
    parts = []
    for culture, data in stage.items():
        mine = lists.loc[lists["culture"] == culture, ["model", "stage", "cue", "responses"]]
        scored = score_agreement(mine, data.norms, cfg.language_of(culture), k=RATED)
        parts.append(scored.assign(culture=culture, family=[families[culture, cue] for cue in scored["cue"]]))
    by = ["model", "culture", "measure", "stage"]
    return summarise(pd.concat(parts).sort_values(by[:3], kind="stable"), by, "value", unit="family", **cfg.bootstrap)


def compare_matchings(cfg: Config, lists: pd.DataFrame, stage: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """Mean P@5 of every condition, exact and by lemma, with the paired difference and its interval over families.

    Returns
    -------
    DataFrame
        `model, culture, reading, stage, exact, lemma, difference, low, high, n`.
    """
    by = ["model", "culture", "reading", "stage"]
    scored = pd.concat([
        score_conditions(cfg, lists, stage, families, matching=name).query("k == @RATED").assign(matching=name)
        for name in MATCHINGS
    ]).sort_values(by[:3], kind="stable")  # fmt: skip
    gaps = compare(
        scored, by, "precision", over="matching", pairs=[("lemma", "exact")], key="cue", unit="family", **cfg.bootstrap
    )
    means = scored.groupby([*by, "matching"], sort=False)["precision"].mean().unstack().reset_index()
    table = means.merge(gaps.rename(columns={"value": "difference"}), on=by, sort=False)
    return table[[*by, *MATCHINGS, "difference", "low", "high", "n"]]


def summarise_precision(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Mean precision with intervals, over all test cues and over those without a reversed training pair (`subset`)."""
    parts = [
        summarise(part, PRECISION_KEYS, "precision", unit="family", run="seed", **cfg.bootstrap).assign(subset=subset)
        for subset, part in (("all", scored), ("no_reverse", scored[~scored["reverse"]]))
    ]
    return pd.concat(parts, ignore_index=True)


def summarise_ceiling(cfg: Config, stage: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """Human split-half ceiling on the test cues that have participants' trials; no rows where a culture has none."""
    settings, parts = cfg.profile.lexical, []
    for culture, data in stage.items():
        if (trials := data.trials) is None:
            continue
        ceiling = estimate_ceiling(
            trials, data.cues["test"], cfg.language_of(culture), ks=settings.ks, splits=settings.ceiling_splits,
            seed=cfg.profile.seed,
        )  # fmt: skip
        ceiling["family"] = [families[culture, cue] for cue in ceiling["cue"]]
        parts += [ceiling.assign(culture=culture, stage="human", model=model) for model in cfg.models]
    empty = pd.DataFrame(columns=[*PRECISION_KEYS, "value", "low", "high", "n", "subset"])
    if not parts:
        return empty
    return summarise(pd.concat(parts), PRECISION_KEYS, "precision", unit="family", **cfg.bootstrap).assign(subset="all")


def compare_stages(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in P@5 between the stages of `list_contrasts`, per reading and subset: intervals and sign-flip p over families.

    `p_holm` is adjusted over the cultures and comparisons of one model, reading and subset.
    """
    five = scored[scored["k"] == 5]
    parts = []
    for subset, part in (("all", five), ("no_reverse", five[~five["reverse"]])):
        table = compare(
            part,
            ["model", "culture", "reading"],
            "precision",
            over="stage",
            pairs=list_contrasts(cfg),
            key="cue",
            unit="family",
            run="seed",
            **cfg.bootstrap,
        )
        table["p_holm"] = table.groupby(["model", "reading"])["p"].transform(lambda p: adjust_holm(p))
        parts.append(table.assign(subset=subset))
    return pd.concat(parts, ignore_index=True)


def spread_precision(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """P@5 of every trained stage in every seed's run, over all test cues.

    Parameters
    ----------
    scored : DataFrame
        From `alignment.score_conditions`.

    Returns
    -------
    DataFrame
        `model, culture, stage, reading`, the columns of `spread_seeds`, `note` (that there is one seed).
    """
    part = scored[(scored["k"] == 5) & scored["stage"].isin(list_trained(cfg))]
    table = spread_seeds(part, ["model", "culture", "stage", "reading"], "precision")
    return table.assign(note=table["seeds"].map(lambda seeds: ALONE if seeds == 1 else ""))


def list_precision_metrics(cfg: Config, at_5: pd.DataFrame, differences: pd.DataFrame, beyond: pd.DataFrame) -> list[dict]:
    """Metric records of notebook 04 but for the ratings: precision and ceiling at 5, paired differences, agreement."""
    language = {name: culture.language for name, culture in cfg.cultures.items()}
    records = []
    for reading in PRECISION_READINGS:
        part = at_5[at_5["reading"] == reading]
        tagged = part.assign(language=part["culture"].map(language))
        stages, people = tagged[tagged["stage"] != "human"], tagged[tagged["stage"] == "human"]
        records += list_records(stages, f"precision_at_5_{reading}", unit="share")
        records += list_records(people, "human_ceiling_at_5", unit="share", method=reading)
        gaps = differences[differences["reading"] == reading].rename(columns={"comparison": "method"})
        gaps = gaps.assign(language=gaps["culture"].map(language))
        records += list_records(gaps, f"precision_at_5_{reading}_difference", unit="share")
    for measure, part in beyond.groupby("measure", sort=False):
        records += list_records(part.assign(language=part["culture"].map(language)), f"{measure}_at_{RATED}", unit="share")
    return records


def _repeat_runs(lists: pd.DataFrame) -> pd.DataFrame:
    """Lists that no training run changes stand beside every run's, so that every difference is within a run."""
    runs = lists["seed"].unique()
    if len(runs) == 1:
        return lists
    fixed = lists.groupby(["model", "stage"])["seed"].transform("nunique") == 1
    return pd.concat([lists[~fixed], *(lists[fixed].assign(seed=run) for run in runs)], ignore_index=True)
