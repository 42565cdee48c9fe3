"""How far the answers moved toward a country, item by item, and whether the norms moved them: controls and a rule."""

from __future__ import annotations

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import FOREIGN, PREFERENCE, TARGETS
from align_utils.stats import adjust_holm, compare, count_flips, permute_signs, summarise
from align_utils.store.page import list_records

CELL = ["model", "culture", "stage", "language", "persona"]
SHIFT_KEYS = [*CELL, "toward"]
# Controls of another culture's norms; the shuffled one keeps the culture's own words and breaks the pairing with the cue alone.
WRONG_CULTURE = ("control_other_culture", FOREIGN)
TOWARD = ("target", "other", "contrast")
# Baselines as if they were tuned models: how far is the way from the untuned model's answers to theirs?
BASELINES = {"human": "other_country", "human_half": "human_half", "uniform": "uniform"}


def measure_shifts(distances: pd.DataFrame, baselines: pd.DataFrame | None = None, *, measure: str = "wasserstein"):
    """shift = d(untuned, country) - d(tuned, country) per item; positive is toward the country.

    Parameters
    ----------
    distances : DataFrame
        From `values.measure_distances`: `model, adapter, stage, language, persona, question, to`, the measure, and `seed` where
        the tuned answers are of several training runs.
    baselines : DataFrame, optional
        From `yardsticks.measure_baselines`: what the shift would be if the model answered evenly (`uniform`), as the other country
        does (`other_country`) or as half of the target's own people do (`human_half`, held against the other half; exact answers
        would lie about twice as near, see `respondents.draw_halves`).

    Returns
    -------
    DataFrame
        SHIFT_KEYS (`culture` is that of the norms), `to`, `question`, `shift` in [-1, 1], and `seed` where given; `toward` is
        'target' where `to` is the culture, else 'other'.
    """
    keys = ["model", "language", "persona", "question", "to"]
    base = distances.loc[distances["adapter"] == "none", [*keys, measure]]
    tuned = distances[distances["adapter"] != "none"].rename(columns={"adapter": "culture"})
    parts = [tuned.merge(base, on=keys, suffixes=("", "_base"))]
    if baselines is not None:
        cultures = pd.DataFrame({"culture": list(dict.fromkeys(tuned["culture"]))})
        rows = baselines.drop(columns=["model", "language", "persona"]).merge(cultures, how="cross")
        # Half of a country stands beside its other half alone; a whole country is a baseline for the other one alone.
        own = rows["adapter"] == rows["culture"]
        rows = rows[(rows["stage"] == "uniform") | (own == (rows["stage"] == "human_half"))]
        rows = rows.assign(stage=rows["stage"].map(BASELINES))
        if "seed" in tuned:
            rows["seed"] = 0  # no training run: one level alone
        parts.append(rows.merge(base, on=["question", "to"], suffixes=("", "_base")))
    both = pd.concat(parts, ignore_index=True)
    both["shift"] = both[f"{measure}_base"] - both[measure]
    both["toward"] = ["target" if a == b else "other" for a, b in zip(both["to"], both["culture"], strict=True)]
    return both[[*SHIFT_KEYS, "to", "question", *({"seed"} & set(both)), "shift"]]


def add_contrast(shifts: pd.DataFrame) -> pd.DataFrame:
    """The shifts with a third `toward`: 'contrast', target minus other on the same item (the mean of the others, if several).

    What moves the answers toward every country alike is taken out. Flatter answers are that only as far as the countries lie equally far
    from even answers, item by item: the row `uniform` shows how far they are not.
    """
    keys = [column for column in shifts.columns if column not in {"toward", "to", "shift"}]
    means = shifts.groupby([*keys, "toward"], sort=False, dropna=False)["shift"].mean().unstack("toward")
    contrast = (means["target"] - means["other"]).rename("shift").dropna().reset_index()
    return pd.concat([shifts, contrast.assign(toward="contrast")], ignore_index=True)


def summarise_shifts(cfg: Config, shifts: pd.DataFrame) -> pd.DataFrame:
    """Mean shift of every stage, with intervals over items (and seeds, where several), p of random signs, and Holm.

    Parameters
    ----------
    shifts : DataFrame
        From `add_contrast`.

    Returns
    -------
    DataFrame
        SHIFT_KEYS, `value, low, high, n, p, p_holm`, in the order of TOWARD; baselines are not tested. Holm's family is all that
        is tested of one model and one `toward`; p is of so many resamples that it can be small enough for it (`stats.count_flips`).
    """
    run = "seed" if "seed" in shifts else None
    table = summarise(shifts, SHIFT_KEYS, "shift", unit="question", run=run, **cfg.bootstrap)
    means = shifts.groupby([*SHIFT_KEYS, "question"], sort=False)["shift"].mean().reset_index()
    tested = means[~means["stage"].isin(BASELINES.values())]
    flips = _count_flips(cfg, tested, SHIFT_KEYS)
    tests = {
        key: permute_signs(part["shift"], part["question"], resamples=flips, seed=cfg.profile.seed)
        for key, part in tested.groupby(SHIFT_KEYS, sort=False)
    }
    table["p"] = [tests.get(key, float("nan")) for key in table[SHIFT_KEYS].itertuples(index=False, name=None)]
    table["p_holm"] = _adjust(table)
    return table.sort_values("toward", key=lambda column: column.map(TOWARD.index), kind="stable", ignore_index=True)


def summarise_topics(cfg: Config, shifts: pd.DataFrame) -> pd.DataFrame:
    """Mean shift per topic, of every stage, control and baseline.

    Parameters
    ----------
    shifts : DataFrame
        From `add_contrast`, with `topic`.

    Returns
    -------
    DataFrame
        SHIFT_KEYS, `topic, value, low, high, n`; intervals over the topic's items (and seeds). Untested: topics are many and small.
    """
    run = "seed" if "seed" in shifts else None
    return summarise(shifts, [*SHIFT_KEYS, "topic"], "shift", unit="question", run=run, **cfg.bootstrap)


def pick_topics(cfg: Config, topics: pd.DataFrame, *, stage: str) -> pd.DataFrame:
    """Rows of `summarise_topics` toward the target for `plots.plot_intervals`: a panel an adapter, a group a language."""
    part = topics[(topics["stage"] == stage) & (topics["toward"] == "target")]
    panel = [f"norms of {cfg.label(*cell)}" for cell in zip(part["model"], part["culture"], strict=True)]
    asked = "asked in " + part["language"]
    if part["persona"].nunique() > 1:
        asked += ", persona " + part["persona"]
    return part.assign(panel=panel, label=part["topic"], group=asked)


def list_items(shifts: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Shift toward the target of every item (mean over seeds), one column an answerer ('cn sft en') or baseline ('cn uniform en'),
    in the order of `items`."""
    part = shifts[shifts["toward"] == "target"]
    names = [part[column] for column in ("culture", "stage", "language")]
    names += [part[column] for column in ("model", "persona") if part[column].nunique() > 1]
    part = part.assign(answerer=[" ".join(row) for row in zip(*names, strict=True)])
    wide = part.groupby(["question", "answerer"], sort=False)["shift"].mean().unstack("answerer")
    return items[["question", "topic", "text_en"]].merge(wide.reset_index(), on="question")


def find_controls(cfg: Config, shifts: pd.DataFrame) -> pd.DataFrame:
    """The shifts with the foreign control added where the profile names it: the other language's SFT adapter, seen from here."""
    if FOREIGN not in cfg.profile.controls:
        return shifts
    parts = [shifts]
    for culture, settings in cfg.cultures.items():
        others = [name for name in cfg.cultures if cfg.cultures[name].language != settings.language]
        part = shifts[(shifts["stage"] == "sft") & shifts["culture"].isin(others[:1])]
        toward = part["to"].map(lambda to, culture=culture: "target" if to == culture else "other")
        parts.append(part.assign(culture=culture, stage=FOREIGN, toward=toward))
    return pd.concat(parts, ignore_index=True)


def compare_controls(cfg: Config, shifts: pd.DataFrame) -> pd.DataFrame:
    """Shift of the target's adapters minus that of every control there is, paired by item (within a seed, where several).

    Parameters
    ----------
    shifts : DataFrame
        From `add_contrast(find_controls(...))`.

    Returns
    -------
    DataFrame
        `model, culture, language, persona, toward, comparison` ('sft - control_shuffled'), `value, low, high, n, effect, p,
        p_holm` (family as in `summarise_shifts`). Empty where the run has no control.
    """
    by = ["model", "culture", "language", "persona", "toward"]
    pairs = list_pairs(shifts)
    if not pairs:
        return pd.DataFrame(columns=[*by, "comparison", "value", "low", "high", "n", "effect", "p", "p_holm"])
    table = compare(
        shifts, by, "shift", over="stage", pairs=pairs, key="question", unit="question",
        run="seed" if "seed" in shifts else None, flips=_count_flips(cfg, shifts, by, times=len(pairs)), **cfg.bootstrap,
    )  # fmt: skip
    return table.assign(p_holm=_adjust(table))


def list_pairs(shifts: pd.DataFrame) -> list[tuple[str, str]]:
    """(Stage trained on the culture's own norms, control) of all that there are."""
    controls = [stage for stage in dict.fromkeys(shifts["stage"]) if stage.startswith("control_")]
    return [(stage, control) for stage in TARGETS if (shifts["stage"] == stage).any() for control in controls]


def state_claims(table: pd.DataFrame, controls: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """For every adapter of the culture's own norms: may one say that these norms moved the answers? A rule, in words.

    'These norms move the answers' asks for four things: the run has a control that was trained on wrong norms, and one of another
    culture's (WRONG_CULTURE; the same one may be both); the shift toward the target has an interval above 0; so has the contrast
    (target minus other); and against every control there is the paired difference toward the target has an interval above 0 and
    Holm's p below `alpha`. With the shuffled control alone the rest carries a weaker sentence: 'these pairings of cue and response
    move the answers'.

    Parameters
    ----------
    table, controls : DataFrame
        From `summarise_shifts` and `compare_controls`.

    Returns
    -------
    DataFrame
        CELL, `claimed` ('yes', 'pairings alone', 'no' or 'cannot be claimed'), `sentence`.
    """
    rows = []
    for key, part in table[table["stage"].isin(TARGETS)].groupby(CELL, sort=False):
        cell, means = dict(zip(CELL, key, strict=True)), part.set_index("toward")
        against = controls[controls["toward"] == "target"].assign(stage=controls["comparison"].str.split(" - ").str[0])
        against = against.merge(pd.DataFrame([cell]))
        names = against["comparison"].str.split(" - ").str[-1]
        beaten = (against["low"] > 0) & (against["p_holm"] < alpha)
        reasons = []
        if not means.loc["target", "low"] > 0:
            reasons.append(f"the shift {_tell(means.loc['target'])} is not above 0")
        if not means.loc["contrast", "low"] > 0:
            reasons.append(f"no more toward the target than toward the other country, {_tell(means.loc['contrast'])}")
        if not beaten.all():
            reasons.append(f"not above {', '.join(names[~beaten])}")
        if not set(names) - {FOREIGN}:
            claimed = "cannot be claimed"
            text = (
                "that these norms move the answers cannot be claimed, as this run has no adapter trained alike on wrong norms"
            )
            text += f" (besides: {'; '.join(reasons)})" if reasons else ""
        elif reasons:
            claimed, text = "no", f"not shown that these norms move the answers: {'; '.join(reasons)}"
        else:
            shown = f"move the answers: {_tell(means.loc['target'])}, above {', '.join(names)}"
            if set(names) & set(WRONG_CULTURE):
                claimed, text = "yes", f"these norms {shown}"
            else:
                claimed = "pairings alone"
                text = f"these pairings of cue and response {shown}; that another culture's norms would not, this run has no control to show"
        if cell["stage"] in PREFERENCE and len(names):
            text += f" (the controls are trained as long as SFT, not as {cell['stage'].upper()})"
        who = f"{cell['culture']} {cell['stage']}, asked in {cell['language']}"
        who += "" if cell["persona"] == "none" else f", persona {cell['persona']}"
        rows.append({**cell, "claimed": claimed, "sentence": f"{who}: {text}."})
    return pd.DataFrame(rows, columns=[*CELL, "claimed", "sentence"])


def list_shift_metrics(table: pd.DataFrame, controls: pd.DataFrame) -> list[dict]:
    """Metric records: `shift_toward_target`, `shift_contrast`, and `shift_over_control` with the comparison as its method."""
    trained = table[~table["stage"].isin(BASELINES.values())]
    records = list_records(trained[trained["toward"] == "target"], "shift_toward_target", unit="distance")
    records += list_records(trained[trained["toward"] == "contrast"], "shift_contrast", unit="distance")
    over = controls[controls["toward"] == "target"].rename(columns={"comparison": "method"})
    return records + list_records(over, "shift_over_control", unit="distance")


def _count_flips(cfg: Config, frame: pd.DataFrame, by: list[str], *, times: int = 1) -> int:
    """Resamples of p for the largest of the families of `_adjust`, of `times` tests for every value of `by`."""
    sizes = frame[by].drop_duplicates().groupby(["model", "toward"]).size()
    return count_flips(cfg.profile.stats.resamples, times * int(sizes.max()) if len(sizes) else 1)


def _adjust(table: pd.DataFrame) -> pd.Series:
    return table.groupby(["model", "toward"], sort=False)["p"].transform(lambda p: adjust_holm(p))


def _tell(row: pd.Series) -> str:
    return f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
