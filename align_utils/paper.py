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
    ("answers aligned with China, Qwen2.5-7B", 13, 25),
    ("answers aligned with China, Llama-3.1-8B (US bias falls)", 20, 24),
)
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
        COLUMNS, a row a claim and model. `low, high` is the 95 % interval of the paired difference (P@5: in shares) or of the
        share after tuning (counts). `verdict`: 'reproduced', 'same direction', 'not seen' or 'not testable here'.
    """
    rows = []
    for model in cfg.models:
        mine = metrics[metrics["model"] == model]
        rows += [_row(cfg, model, claim, paper, *_gain(mine, culture, goal)) for claim, paper, culture, goal in GAINS]
        rows.append(_row(cfg, model, CONCRETENESS[0], CONCRETENESS[1], *_concreteness(mine, CONCRETENESS[2])))
        rows.append(
            _row(cfg, model, "valence and arousal at human level", "at human level", "see tab04_ratings", None, None, None, "")
        )
        for claim, before, after in COUNTS:
            p = stats.fisher_exact(before, after, 50)
            rows.append(
                _row(cfg, model, claim, f"{before} -> {after} of 50 (Fisher p = {p:.3f} as if independent)", *_aligned(mine))
            )
        rows.append(
            _row(
                cfg,
                model,
                "tuned 7-8B models match or beat vanilla 70B",
                "match or beat",
                "no 70B baseline in this run",
                None,
                None,
                None,
                "",
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(cfg: Config, model: str, claim: str, paper: str, ours: str, low, high, n, verdict: str) -> dict:
    # What the sample or a small stand-in model shows is no test of the paper, however it comes out.
    if cfg.is_sample or not verdict:
        verdict = "not testable here" + (" (illustrative sample)" if cfg.is_sample else "")
    values = [claim, paper, ours, low, high, n, cfg.profile.data, model, verdict]
    return dict(zip(COLUMNS, values, strict=True))


def _gain(metrics: pd.DataFrame, culture: str, goal: float) -> tuple:
    part = metrics[(metrics["culture"] == culture) & (metrics["subset"] == "all")]
    level = part[part["metric"] == "precision_at_5_attested"].set_index("stage")["value"]
    gap = part[(part["metric"] == "precision_at_5_attested_difference") & (part["method"] == "ppo - few_shot")]
    if gap.empty or "few_shot" not in level or not level["few_shot"]:
        return "not measured", None, None, None, ""
    gap, gain = gap.iloc[0], level["ppo"] / level["few_shot"] - 1
    return (
        f"{level['few_shot']:.2f} -> {level['ppo']:.2f} ({gain:+.0%})",
        gap["low"],
        gap["high"],
        gap["n"],
        _judge(gap, gain, goal),
    )


def _concreteness(metrics: pd.DataFrame, goal: float) -> tuple:
    part = metrics[(metrics["metric"] == "concreteness_median") & (metrics["culture"] == "us")].set_index("stage")
    if not {"few_shot", "ppo"} <= set(part.index):
        return "not measured", None, None, None, ""
    change = part.loc["ppo", "value"] - part.loc["few_shot", "value"]
    apart = part.loc["ppo", "low"] > part.loc["few_shot", "high"]
    verdict = ("reproduced" if change >= goal else "same direction") if apart else "not seen"
    return f"{change:+.2f} (English)", None, None, part.loc["ppo", "n"], verdict


def _aligned(metrics: pd.DataFrame) -> tuple:
    part = metrics[(metrics["metric"] == "aligned_with_china") & (metrics["language"] == "zh")]
    after = part[(part["culture"] == "cn") & (part["stage"] == "ppo")]
    before = part[part["stage"] == "zero_shot"]
    if after.empty or before.empty:
        return "not measured", None, None, None, ""
    # The claims are about two models that this run does not hold unless the profile names them.
    after, before = after.iloc[0], before.iloc[0]
    counts = [round(row["value"] * row["n"]) for row in (before, after)]
    text = f"{counts[0]} -> {counts[1]} of {after['n']:.0f}, asked in Mandarin"
    verdict = "not seen" if counts[1] <= counts[0] else "same direction"
    return text, after["low"], after["high"], after["n"], verdict


def _judge(gap: pd.Series, gain: float, goal: float) -> str:
    if gap["low"] <= 0:
        return "not seen"
    return "reproduced" if gain >= goal else "same direction"
