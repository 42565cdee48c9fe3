"""Appendix: participants simulated by a model, set beside people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pandera.pandas as pa

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.config.stages import list_stages
from align_utils.lexical.agreement import correlate_ranks
from align_utils.lexical.drawn import SAMPLED_VERSION, WHO_DRAWN, Draw, draw_cells
from align_utils.lexical.lists import LIST_FORM
from align_utils.lexical.precision import PRECISION_READINGS, RATED, add_families, list_answered, map_strengths, score_lists
from align_utils.norms.split import CultureNorms
from align_utils.norms.strengths import build_strengths, find_missing
from align_utils.stats import expect_types, jensen_shannon
from align_utils.store.steps import read_frame

# Answers in the form of people's trials, empty where missing.
ANSWERS = pa.DataFrameSchema({**WHO_DRAWN, **{name: pa.Column(str) for name in ("R1", "R2", "R3")}})

POPULATION_MEASURES = (
    "precision_top", "precision_attested", "js_distance", "shared_mass", "attested_share", "rank_correlation", "entropy",
    "entropy_gap", "distinct", "distinct_gap",
)  # fmt: skip


def form_trials(lists: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Drawn lists in the form of people's trials, `R1, R2, R3`; 'NA' and the like stand for no answer, as in people's files."""
    words = pd.DataFrame([(row + [""] * 3)[:3] for row in lists["responses"]], columns=["R1", "R2", "R3"])
    words = words.mask(words.apply(find_missing, language=language), "")
    return pd.concat([lists[["participant", "cue"]], words, lists[["text"]]], axis=1)


def simulate(cfg: Config, people: dict[str, CultureNorms], panels: dict[str, Panel]) -> pd.DataFrame:
    """Answers of simulated participants of every model, culture and stage to the panels' cues, `participants.n` a cue.

    Returns `ANSWERS`, empty where n is 0; a part of it lies in `runs/<profile>/participants/<model>_<culture>.parquet`.
    """
    key = cfg.profile.participants.model_dump(exclude={"cues"})
    draw = Draw(
        "participants", "participants", "answers.parquet", ANSWERS, list_stages(cfg), [cfg.profile.seed],
        {name: value for name, value in key.items() if name != "batch"}, version=SAMPLED_VERSION, key={"participants": key},
        form=LIST_FORM | {"missing"}, finish=form_trials,
    )  # fmt: skip
    asked = {name: replace(own, cues=own.cues | {"test": panels[name].cues}) for name, own in people.items()}
    paths = [path for name in cfg.models for path in draw_cells(cfg, name, asked, draw)]
    frames = [read_frame(path, made_by="A4_lexical_alignment") for path in paths]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(ANSWERS.columns))


def rarefy(counts: Sequence[int], size: int) -> tuple[float, float]:
    """Expected number of distinct responses, and their entropy in bits, among `size` responses drawn without replacement.

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
    expected = expect_types(values, np.full(len(values), total), size)
    return float(copies @ expected["set_size"]), float(abs(copies @ expected["entropy"]))


def compare_populations(
    answers: pd.DataFrame, people: pd.DataFrame, cues: Sequence, language: Language, *, min_count: int
) -> pd.DataFrame:
    """Every measure of one set of answers against people's, cue by cue: `cue, measure, value`.

    Both sides are strengths (`cue, response, count, rank`); people must have answered the cues. Precision is that of the five strongest
    responses; shared mass, Jensen-Shannon distance (0: alike, 1: nothing shared; Endres and Schindelin 2003) and rank correlation are
    between the two distributions; `attested_share` is the share of the answers that people gave too: the precision of answers as they are
    drawn; `entropy` (bits) and `distinct` of the answers, and how much more they are (`_gap`, below 0: less varied) than people's, are
    at the same number of responses, for a model may have been asked more often. Without answers to a cue precision, shared mass and
    attested share are 0, the others NaN.
    """
    strongest = answers[answers["rank"] <= RATED].sort_values(["cue", "rank"]).groupby("cue")["response"].agg(list).to_dict()
    lists = pd.DataFrame({"cue": list(cues), "responses": [strongest.get(cue, []) for cue in cues]})
    scored = score_lists(lists, people, language, ks=[RATED], min_count=min_count)
    precision = scored.set_index(["cue", "reading"])["precision"].to_dict()
    all_mine, all_theirs = (map_strengths(side, language, "count") for side in (answers, people))
    rows = []
    for cue in cues:
        mine, theirs = all_mine.get(cue, {}), all_theirs[cue]
        values = {f"precision_{reading}": precision[cue, reading] for reading in PRECISION_READINGS}
        values |= {"shared_mass": 0.0, "attested_share": 0.0}
        if mine:
            both = list(dict.fromkeys([*theirs, *mine]))
            p, q = (np.array([side.get(word, 0) for word in both], dtype=float) for side in (mine, theirs))
            p, q, shared = p / p.sum(), q / q.sum(), (p > 0) & (q > 0)
            size = min(sum(mine.values()), sum(theirs.values()))
            (distinct, entropy), (kinds, bits) = (rarefy(list(side.values()), size) for side in (mine, theirs))
            values |= {
                "js_distance": float(np.sqrt(jensen_shannon(p, q))),
                "shared_mass": float(np.minimum(p, q).sum()), "attested_share": float(p[shared].sum()),
                "rank_correlation": correlate_ranks(p[shared], q[shared]), "entropy": entropy, "entropy_gap": entropy - bits,
                "distinct": distinct, "distinct_gap": distinct - kinds,
            }  # fmt: skip
        rows += [{"cue": cue, "measure": measure, "value": values.get(measure, np.nan)} for measure in POPULATION_MEASURES]
    return pd.DataFrame(rows, columns=["cue", "measure", "value"])


def compare_panels(
    trials: pd.DataFrame, cues: Sequence[str], language: Language, *, size: int, splits: int, min_count: int, seed: int
) -> pd.DataFrame:
    """The human level at equal size: a panel of `size` participants plays the model, the other people are the norm.

    Panels are drawn anew for every cue and split; of a cue with fewer than twice `size` people half of them play. As with
    `precision.estimate_ceiling` the norm lacks the panel, so this is a lower bound. Returns `cue, measure, value`, means over the splits.
    """
    rng, groups = np.random.default_rng(seed), dict(tuple(trials.groupby("cue")))
    panels, others, codes = [], [], []
    for cue in cues:
        group = groups[cue]
        playing = min(size, len(group) // 2)
        for _ in range(splits):
            # A number stands for a cue and split, so that all splits are counted at once.
            order = rng.permutation(len(group))
            panels.append(group.iloc[order[:playing]].assign(cue=len(codes)))
            others.append(group.iloc[order[playing:]].assign(cue=len(codes)))
            codes.append(cue)
    answers, people = (build_strengths(pd.concat(part), language, "R123") for part in (panels, others))
    table = compare_populations(answers, people, range(len(codes)), language, min_count=min_count)
    table["cue"] = [codes[code] for code in table["cue"]]
    return table.groupby(["cue", "measure"], sort=False, as_index=False)["value"].mean()


def draw_frequency(
    norms: pd.DataFrame, train: Sequence[str], cues: Sequence[str], *, size: int, words: int, seed: int
) -> pd.DataFrame:
    """Trials of people who ignore the cue: distinct words drawn in proportion to their frequency over the training cues."""
    counts = norms[norms["cue"].isin(set(train))].groupby("response")["count"].sum().sort_index()
    rng, share = np.random.default_rng(seed), (counts / counts.sum()).to_numpy()
    rows = []
    for cue in cues:
        for number in range(size):
            drawn = rng.choice(counts.index.to_numpy(), size=min(words, len(counts)), replace=False, p=share)
            rows.append([number + 1, cue, *[str(word) for word in drawn], "", ""][:5])
    return pd.DataFrame(rows, columns=["participant", "cue", "R1", "R2", "R3"])


@dataclass(frozen=True)
class Panel:
    """People of one culture beside whom participants are simulated: the cues asked, people's strengths, and their trials if there are any."""

    cues: list[str]
    strengths: pd.DataFrame
    trials: pd.DataFrame | None


def load_panels(cfg: Config, people: dict[str, CultureNorms]) -> dict[str, Panel]:
    """What simulated participants are compared with, by culture, and the test cues they are asked.

    People are the participants' trials where a culture has them: published strength lists may be cut short, and a cut list would make
    people look less varied than they are. Of the test cues with at least four trials `participants.cues` are drawn by the seed, so that a
    larger number keeps the earlier ones. A culture without trials falls back on its strengths and has no human panel.
    """
    panels = {}
    for culture, own in people.items():
        trials, strengths = own.trials, own.norms
        known = own.cues["test"] if trials is None else list_answered(own)
        order = np.random.default_rng(cfg.profile.seed).permutation(len(known))[: cfg.profile.participants.cues]
        cues = [known[i] for i in order]
        if trials is not None:
            trials = trials[(trials[["R1", "R2", "R3"]] != "").any(axis=1) & trials["cue"].isin(set(cues))]
            strengths = build_strengths(trials, cfg.language_of(culture), "R123")
        panels[culture] = Panel(cues, strengths, trials)
    return panels


def score_panels(
    cfg: Config, answers: pd.DataFrame, people: dict[str, CultureNorms], panels: dict[str, Panel], families: dict
) -> pd.DataFrame:
    """Every measure for every stage's participants (`ANSWERS`), for panels of people and for the frequency baseline, all of equal size.

    Returns `model, culture, stage, cue, measure, value, family`; stages `human` and `frequency` beside the model's.
    """
    columns = ["model", "culture", "stage", "cue", "measure", "value", "family"]
    settings, lexical, seed, parts = cfg.profile.participants, cfg.profile.lexical, cfg.profile.seed, []
    if not settings.n:
        return pd.DataFrame(columns=columns)
    for culture, panel in panels.items():
        language, own, cues = cfg.language_of(culture), people[culture], panel.cues
        common = draw_frequency(own.norms, own.cues["train"], cues, size=settings.n, words=settings.words, seed=seed)
        conditions = dict(tuple(answers[answers["culture"] == culture].groupby(["model", "stage"], sort=False)))
        conditions |= {(model, "frequency"): common for model in cfg.models}
        tables = {}
        for key, trials in conditions.items():
            counted = build_strengths(trials, language, cfg.profile.norms.responses)
            tables[key] = compare_populations(counted, panel.strengths, cues, language, min_count=lexical.min_count)
        if panel.trials is not None:
            panel_of = {"size": settings.n, "splits": lexical.ceiling_splits, "min_count": lexical.min_count, "seed": seed}
            human = compare_panels(panel.trials, cues, language, **panel_of)
            tables |= {(model, "human"): human for model in cfg.models}
        parts += [table.assign(model=model, stage=name, culture=culture) for (model, name), table in tables.items()]
    return add_families(pd.concat(parts, ignore_index=True), families)[columns]
