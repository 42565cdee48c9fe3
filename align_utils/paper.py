"""The paper's claims (from its abstract, all that we hold) beside the run's own numbers, with a verdict by rule."""

from __future__ import annotations

import pandas as pd

from align_utils import stats
from align_utils.config import Config

# Claim, the paper's words, and what the run must reach to say 'reproduced' (relative gain, or scale points).
GAINS = (
    ("P@5 gain over the vanilla model, English", "+16 to +20 %", "us", 0.16),
    ("P@5 gain over the vanilla model, Mandarin", "+43 to +165 %", "cn", 0.43),
)
CONCRETENESS = ("median concreteness of the associations", "+0.20", 0.20)
COUNTS = (
    ("answers aligned with China", "Qwen2.5-7B", 13, 25),
    ("answers aligned with China (US bias falls)", "Llama-3.1-8B", 20, 24),
)
BASELINE = "tuned 7-8B models match or beat vanilla 70B"
COLUMNS = ["claim", "paper", "ours", "low", "high", "n", "data", "model", "verdict"]


def compare_with_paper(cfg: Config, metrics: pd.DataFrame) -> pd.DataFrame:
    """The paper's table beside ours.

    Parameters
    ----------
    metrics : DataFrame
        From `artifacts.load_metrics`.

    Returns
    -------
    DataFrame
        COLUMNS, a row a claim and model. `low, high` is the 95 % interval of the paired difference (P@5: in shares; concreteness: scale points) or of
        the share after tuning (counts). A stand-in for the paper's models and the sample get no verdict of their own. `verdict`: 'reproduced', 'same direction', 'not seen' or 'not testable here'.
    """
    rows = []
    for model in cfg.models:
        mine = metrics[metrics["model"] == model]
        rows += [_row(cfg, model, claim, paper, *_gain(mine, culture, goal)) for claim, paper, culture, goal in GAINS]
        rows.append(_row(cfg, model, CONCRETENESS[0], CONCRETENESS[1], *_concreteness(mine, CONCRETENESS[2])))
        rows.append(_row(cfg, model, "valence and arousal at human level", "at human level", *_level(mine)))
        for claim, tuned, before, after in COUNTS:
            p = stats.fisher_exact(before, after, 50)
            claim = f"{claim}, {tuned}"
            # A model of the paper is set beside its own claim only; a stand-in beside both, without a verdict.
            if cfg.models[model].in_paper not in {None, tuned}:
                continue
            rows.append(
                _row(cfg, model, claim, f"{before} -> {after} of 50 (Fisher p = {p:.3f} as if independent)", *_aligned(mine))
            )
        rows += [_row(cfg, model, BASELINE, "match or beat", *result) for result in _beside_baselines(cfg, mine, metrics)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(cfg: Config, model: str, claim: str, paper: str, ours: str, low, high, n, verdict: str) -> dict:
    # What the sample or a small stand-in model shows is no test of the paper, however it comes out.
    reason = "illustrative sample" if cfg.is_sample else "" if cfg.models[model].in_paper else "stand-in model"
    if reason or not verdict:
        verdict = "not testable here" + (
            f" ({reason}; {verdict} on it)" if reason and verdict else f" ({reason})" if reason else ""
        )
    values = [claim, paper, ours, low, high, n, cfg.profile.data, model, verdict]
    return dict(zip(COLUMNS, values, strict=True))


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


def _aligned(metrics: pd.DataFrame) -> tuple:
    part = metrics[(metrics["metric"] == "aligned_with_china") & (metrics["language"] == "zh")]
    after = part[(part["culture"] == "cn") & (part["stage"] == "ppo")]
    before = part[part["stage"] == "zero_shot"]
    if after.empty or before.empty:
        return "not measured", None, None, None, ""
    after, before = after.iloc[0], before.iloc[0]
    counts = [round(row["value"] * row["n"]) for row in (before, after)]
    text = f"{counts[0]} -> {counts[1]} of {after['n']:.0f}, asked in Mandarin"
    test = metrics[(metrics["metric"] == "aligned_with_china_p") & (metrics["language"] == "zh")]
    p = test[(test["culture"] == "cn") & (test["stage"] == "ppo")]["value"].iloc[0]
    text += f" (McNemar p = {p:.2f})"
    verdict = "same direction" if counts[1] > counts[0] and p < 0.05 else "not seen"
    return text, after["low"], after["high"], after["n"], verdict


def _beside_baselines(cfg: Config, mine: pd.DataFrame, metrics: pd.DataFrame) -> list[tuple]:
    # Only the survey: a baseline writes no lists, and the paper's own comparison may be of those.
    mine, shares = (f[(f["metric"] == "aligned_with_china") & (f["language"] == "zh")] for f in (mine, metrics))
    tuned = mine[(mine["culture"] == "cn") & (mine["stage"] == "ppo")]
    results = []
    for name in cfg.baselines:
        vanilla = shares[(shares["model"] == name) & (shares["stage"] == "zero_shot")]
        if tuned.empty or vanilla.empty:
            continue
        after, before = tuned.iloc[0], vanilla.iloc[0]
        counts = [round(row["value"] * row["n"]) for row in (after, before)]
        text = f"answers aligned with China, asked in Mandarin: {counts[0]} of {after['n']:.0f}, {name} {counts[1]}"
        verdict = "same direction" if counts[0] >= counts[1] else "not seen"
        results.append((text, after["low"], after["high"], after["n"], verdict))
    return results or [("no 70B baseline in this run", None, None, None, "")]


def _judge(gap: pd.Series, gain: float, goal: float) -> str:
    if gap["low"] <= 0:
        return "not seen"
    return "reproduced" if gain >= goal else "same direction"
