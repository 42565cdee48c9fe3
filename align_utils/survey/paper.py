"""The paper's claims (from its abstract, all that we hold) beside the run's own numbers, with a verdict by rule."""

from __future__ import annotations

import re

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import FOREIGN
from align_utils.survey.aligned import describe_paper

# Claim, the paper's words, and what the run must reach to say 'reproduced' (relative gain, or scale points).
GAINS = (
    ("P@5 gain over the vanilla model, English", "+16 to +20 %", "us", 0.16),
    ("P@5 gain over the vanilla model, Mandarin", "+43 to +165 %", "cn", 0.43),
)
CONCRETENESS = ("median concreteness of the associations", "+0.20", 0.20)
COUNTS = {"Qwen2.5-7B": "answers aligned with China", "Llama-3.1-8B": "answers aligned with China (US bias falls)"}
LEVEL = "valence and arousal at human level"
SIZE = "tuned 7-8B models match or beat vanilla 70B"
UNTESTED = "not testable here"
# Names of the vanilla models of that size, from whatever server they answer.
LARGE = re.compile(r"7[02]b", re.IGNORECASE)
PAPER_COLUMNS = ["claim", "paper", "ours", "low", "high", "n", "data", "model", "verdict"]


def compare_with_paper(cfg: Config, metrics: pd.DataFrame) -> pd.DataFrame:
    """The paper's table beside ours.

    Parameters
    ----------
    metrics : DataFrame
        From `artifacts.load_metrics`.

    Returns
    -------
    DataFrame
        COLUMNS, a row a claim and model. `low, high` is the 95 % interval of the paired difference (P@5: in shares; concreteness:
        scale points) or of the share after tuning (counts). A stand-in for the paper's models and the sample get no verdict of
        their own. `verdict`, by rule: 'reproduced' (the difference is shown and as large as the paper's; for counts also larger than
        every control's, the other culture's adapter among them), 'same direction' (shown, but smaller, matched by a control, or
        without one trained on wrong norms), 'not seen', or 'not testable
        here'. Against a 70B model: 'reproduced' where ours is at least theirs on every measure, P@5 among them, 'same direction'
        where on some; where its P@5 was not measured the claim is not testable.
    """
    rows = []
    counts = describe_paper().set_index("model")
    for model in cfg.models:
        mine = metrics[metrics["model"] == model]
        if LARGE.search(model):
            continue  # a yardstick of the others, not tuned itself
        rows += [_row(cfg, model, claim, paper, *_gain(mine, culture, goal)) for claim, paper, culture, goal in GAINS]
        rows.append(_row(cfg, model, CONCRETENESS[0], CONCRETENESS[1], *_concreteness(mine, CONCRETENESS[2])))
        rows.append(_row(cfg, model, LEVEL, "at human level", *_level(mine)))
        for tuned, claim in COUNTS.items():
            # A model of the paper is set beside its own claim only; a stand-in beside both, without a verdict.
            if cfg.models[model].in_paper in {None, tuned}:
                row = counts.loc[tuned]
                rows.append(_row(cfg, model, f"{claim}, {tuned}", _tell_counts(row), *_aligned(mine, row)))
        rows.append(_row(cfg, model, SIZE, "match or beat", *_size(mine, metrics[metrics["model"].str.contains(LARGE)])))
    return pd.DataFrame(rows, columns=PAPER_COLUMNS)


def _row(cfg: Config, model: str, claim: str, paper: str, ours: str, low, high, n, verdict: str) -> dict:
    # What the sample or a small stand-in model shows is no test of the paper, however it comes out.
    reason = "illustrative sample" if cfg.is_sample else "" if cfg.models[model].in_paper else "stand-in model"
    if not verdict:
        verdict = UNTESTED + (f" ({reason})" if reason else "")
    elif reason and not verdict.startswith(UNTESTED):
        verdict = f"{UNTESTED} ({reason}; {verdict} on it)"
    values = [claim, paper, ours, low, high, n, cfg.profile.data, model, verdict]
    return dict(zip(PAPER_COLUMNS, values, strict=True))


def _gain(metrics: pd.DataFrame, culture: str, goal: float) -> tuple:
    part = metrics[(metrics["culture"] == culture) & (metrics["subset"] == "all")]
    level = part[part["metric"] == "precision_at_5_attested"].set_index("stage")
    gap = part[(part["metric"] == "precision_at_5_attested_difference") & (part["method"] == "ppo - few_shot")]
    if gap.empty or "few_shot" not in level.index:
        return "not measured", None, None, None, ""
    gap, before, after = gap.iloc[0], level.loc["few_shot", "value"], level.loc["ppo", "value"]
    text = f"{before:.2f} -> {after:.2f}"
    # A vanilla model that no one can tell from the same answer to every cue has no base for a ratio.
    idle = level["value"].reindex(["frequency", "chance"]).max()
    if not before or level.loc["few_shot", "low"] <= idle:
        return f"{text} (vanilla at the baselines' level: no ratio)", gap["low"], gap["high"], gap["n"], _judge(gap, 0.0, goal)
    gain = after / before - 1
    return f"{text} ({gain:+.0%})", gap["low"], gap["high"], gap["n"], _judge(gap, gain, goal)


def _concreteness(metrics: pd.DataFrame, goal: float) -> tuple:
    # Both over the cues which the two stages have; the stages' own medians are over different cues.
    part = metrics[(metrics["culture"] == "us") & (metrics["method"] == "ppo - few_shot")].set_index("metric")
    if not {"concreteness_median_difference", "concreteness_difference"} <= set(part.index):
        return "not measured", None, None, None, ""
    change, gap = part.loc["concreteness_median_difference", "value"], part.loc["concreteness_difference"]
    text = f"median {change:+.2f}, mean of paired differences {gap['value']:+.2f} (English)"
    return text, gap["low"], gap["high"], gap["n"], _judge(gap, change, goal)


def _level(metrics: pd.DataFrame) -> tuple:
    part = metrics[(metrics["metric"] == "human_level_p") & (metrics["stage"] == "ppo")]
    part = part[part["method"].isin(["valence", "arousal"])].dropna(subset="value")
    if part.empty:
        return "not measured: a margin needs participants and two cues", None, None, None, ""
    text = ", ".join(f"{row.method} {row.culture} p = {row.value:.2f}" for row in part.itertuples())
    verdict = "reproduced" if part["value"].lt(0.05).all() else "not seen"
    return f"equivalence (TOST): {text}", None, None, part["n"].min(), verdict


def _tell_counts(row: pd.Series) -> str:
    return (
        f"{row['before']:.0f} -> {row['after']:.0f} of {row['n']:.0f} (shares [{row['before_low']:.2f}, {row['before_high']:.2f}] -> "
        f"[{row['after_low']:.2f}, {row['after_high']:.2f}]; Fisher p = {row['fisher_p']:.3f} as if independent; McNemar p between "
        f"{row['mcnemar_low']:.4f} and {row['mcnemar_high']:.3f}, by the pairing that is not known)"
    )


def _aligned(metrics: pd.DataFrame, paper: pd.Series) -> tuple:
    asked = metrics[metrics["language"] == "zh"]
    # Another culture's adapter as it is: a control of its own, whether the profile names it or not.
    foreign = (asked["stage"] == "sft") & (asked["culture"] != "cn")
    asked = asked.assign(stage=asked["stage"].mask(foreign, FOREIGN))
    asked = asked[(asked["culture"] == "cn") | asked["stage"].isin(["zero_shot", FOREIGN])]
    if "persona" in asked:
        asked = asked[asked["persona"].isna() | (asked["persona"] == "none")]
    nearer, mode = _read_counts(asked, "aligned_with_china"), _read_counts(asked, "aligned_with_china_mode")
    if not {"zero_shot", "ppo"} <= set(nearer.index):
        return "not measured", None, None, None, ""
    before, after = (nearer.loc[stage, "count"] for stage in ("zero_shot", "ppo"))
    n, p = nearer.loc["ppo", "n"], nearer.loc["ppo", "p"]
    test = "random signs" if nearer.loc["ppo", "method"] == "random signs" else "McNemar"
    text = f"{before:g} -> {after:g} of {n:.0f}, asked in Mandarin ({test} p = {p:.2f} after Holm)"
    if {"zero_shot", "ppo"} <= set(mode.index):
        first, last = (mode.loc[stage, "count"] for stage in ("zero_shot", "ppo"))
        text += f"; by the modal answer {first:g} -> {last:g} (p = {mode.loc['ppo', 'p']:.2f})"
    controls = nearer.loc[nearer.index.str.startswith("control_"), "count"]
    text += "; controls: " + (
        ", ".join(f"{stage.removeprefix('control_')} {count:g}" for stage, count in controls.items()) or "none"
    )
    verdict = "not seen"
    if after > before and p < 0.05:
        enough = (after - before) / n >= (paper["after"] - paper["before"]) / paper["n"]
        # Without one trained on wrong norms nothing tells these norms from any tuning.
        verdict = "reproduced" if enough and set(controls.index) - {FOREIGN} and (controls < after).all() else "same direction"
    return text, nearer.loc["ppo", "low"], nearer.loc["ppo", "high"], n, verdict


def _read_counts(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`low, high, n, count` (a mean where there are several seeds), `p, method` by stage; p is NaN where nothing is tested."""
    part = metrics[metrics["metric"] == metric].drop_duplicates("stage").set_index("stage")[["value", "low", "high", "n"]]
    tests = metrics[metrics["metric"] == f"{metric}_p_holm"].drop_duplicates("stage").set_index("stage")
    tests = tests[["value", "method"]].rename(columns={"value": "p"}).reindex(part.index)
    return part.assign(count=(part["value"] * part["n"]).round(1)).join(tests)


def _size(mine: pd.DataFrame, large: pd.DataFrame) -> tuple:
    """Tuned models against vanilla ones of 70B, value against value wherever both were measured."""
    if large.empty:
        return "no 70B baseline in this run", None, None, None, ""
    asked = {"precision_at_5_attested": ("few_shot", "culture"), "aligned_with_china": ("zero_shot", "language")}
    pairs = []
    for metric, (stage, where) in asked.items():
        ours = mine[(mine["metric"] == metric) & (mine["stage"] == "ppo")]
        if metric == "aligned_with_china":
            ours = ours[ours["culture"] == "cn"]
        theirs = large[(large["metric"] == metric) & (large["stage"] == stage)]
        keys = [key for key in (where, "subset", "persona") if key in mine]
        pairs.append(ours.merge(theirs[[*keys, "model", "value"]], on=keys, suffixes=("", "_large")).assign(where=where))
    both = pd.concat(pairs, ignore_index=True)
    if both.empty:
        return "70B baseline not measured on the same test", None, None, None, ""
    text = "; ".join(
        f"{row['metric']} {row[row['where']]} {row['value']:.2f} against {row['value_large']:.2f} of {row['model_large']}"
        for row in both.to_dict("records")
    )
    # A baseline behind a URL is asked the survey alone, which is half of the claim. Intervals do not enter: fewer items would match more.
    if "precision_at_5_attested" not in set(both["metric"]):
        verdict = f"{UNTESTED} (P@5 of the 70B not measured)"
    else:
        matched = both["value"] >= both["value_large"]
        verdict = "reproduced" if matched.all() else "same direction" if matched.any() else "not seen"
    return text, None, None, both["n"].min(), verdict


def _judge(gap: pd.Series, gain: float, goal: float) -> str:
    if gap["low"] <= 0:
        return "not seen"
    return "reproduced" if gain >= goal else "same direction"
