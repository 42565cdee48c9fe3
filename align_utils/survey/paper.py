"""The paper's claims (from its abstract, all that we hold) beside the run's own numbers, with a verdict by rule."""

import re

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import FOREIGN, TARGETS
from align_utils.stats import fisher_exact, mcnemar_exact, wilson_interval
from align_utils.store.page import list_records
from align_utils.survey.distances import CHINA, pick_pair
from align_utils.survey.shifts import REFERENCE_SHIFTS
from align_utils.survey.verdicts import BLIND

USA = "USA"
# The versions of the paper that state a claim.
FIRST, MOST, EVERY = "arXiv v1, review version", "arXiv v1, v2, ACL", "all versions"
# Claim, the paper's words, the version, the country, and the relative gains between which a run says 'reproduced'.
GAINS = (
    ("P@5 gain over the vanilla model, English", "+16 to +20 %", MOST, USA, (0.16, 0.20)),
    ("P@5 gain over the vanilla model, Mandarin", "+43 to +165 %", MOST, CHINA, (0.43, 1.65)),
)
CONCRETENESS = ("median concreteness of the associations, English", "+0.20", FIRST, 0.20)
# The paper's answers aligned with China of so many items: before, after, and the versions that state it.
PAPER_ITEMS = 50
PAPER_COUNTS = {
    "Qwen2.5-7B": (13, 25, EVERY),
    "Llama-3.1-8B": (20, 24, "review version (v1: US bias drops by one-third)"),
}
UNTESTED = "not measured here"
# Names of the vanilla models of that size, from whatever server they answer.
LARGE = re.compile(r"7[02]b", re.IGNORECASE)
PRECISION, ALIGNED = "precision_at_5_attested", "aligned_with_china"
SHOWN = ("claim", "paper", "stands in", "here", "on", "verdict")
PAPER_COLUMNS = [*SHOWN, "low", "high", "n", "details"]


# A finding is what the run has to say to a claim: `here` (a few words), `low, high` of a difference (or a share) and its `n`, `verdict`, and
# `details`.
NOT_MEASURED = {"here": "not measured"}


def record_survey(cfg: Config, shifts: pd.DataFrame, controls: pd.DataFrame, counts: pd.DataFrame) -> list[dict]:
    """Metric records of the values' analysis.

    The frames are from `shifts.summarise_shifts`, `shifts.compare_controls` and `aligned.count_aligned`. Gives `shift_toward_target`,
    `shift_contrast`, `shift_over_control` (the comparison as its method); where China is compared `aligned_with_china` (nearer),
    `..._mode`, and their p after Holm (`method`: the test).
    """
    trained = shifts[~shifts["stage"].isin(REFERENCE_SHIFTS.values())]
    records = list_records(trained[trained["toward"] == "target"], "shift_toward_target", unit="distance")
    records += list_records(trained[trained["toward"] == "contrast"], "shift_contrast", unit="distance")
    over = controls[controls["toward"] == "target"].rename(columns={"comparison": "method"})
    records += list_records(over, "shift_over_control", unit="distance")
    pair = pick_pair(cfg.cultures)
    if not pair or cfg.cultures[pair[1]].survey_country != CHINA:
        return records
    for reading, part in counts.groupby("reading", sort=False):
        name = ALIGNED if reading == "nearer" else f"{ALIGNED}_{reading}"
        records += list_records(part, name, unit="share", subset="high_tension")
        tests = part.drop(columns=["low", "high"]).assign(value=part["p_holm"]).dropna(subset="value")
        # As `aligned.count_aligned` tests them: controls have one training.
        several = tests["stage"].isin(TARGETS) & (len(cfg.seeds) > 1)
        tests["method"] = np.where(several, "random signs", "exact McNemar")
        records += list_records(tests, f"{name}_p_holm", unit="p", subset="high_tension")
    return records


def compare_with_paper(cfg: Config, metrics: pd.DataFrame) -> pd.DataFrame:
    """The paper's table beside ours.

    `metrics` are from `store.load_metrics`, or of a page (`gather_metrics`). Returns PAPER_COLUMNS, a row a claim and model. `low, high` is
    the 95 % interval of the paired difference (P@5: in shares; concreteness: scale points) or of the share after tuning (counts). A
    stand-in for the paper's models and made-up data are named in the verdict, and nothing is 'reproduced' on them but 'as stated'.
    `verdict`, by rule: 'reproduced' (the difference is shown and as large as the paper's; for counts also larger than every control's, the other
    culture's adapter among them), 'larger gain' (beyond the paper's range), 'same direction' (shown, but smaller, matched by a control, or without one trained on wrong norms), 'not seen',
    'not measurable' (of counts: no positive control moved the answers either), 'not testable' or 'not measured here'. `stands in`: which
    versions of the paper state the claim. Against a 70B model: 'reproduced' where ours is at least theirs on every measure, P@5 among them, 'same direction' where on some; where its P@5 was
    not measured the claim is not testable.
    """
    rows, large = [], metrics[metrics["model"].str.contains(LARGE)]
    ours = {culture.survey_country: name for name, culture in reversed(cfg.cultures.items())}
    china, language = ours.get(CHINA), cfg.language_of(ours[CHINA]).name if CHINA in ours else None
    for model in cfg.models:
        if LARGE.search(model):
            continue  # what the others are held against, not tuned itself
        mine = metrics[metrics["model"] == model]
        found = [(*claim, _find_gain(mine, ours.get(country), goal)) for *claim, country, goal in GAINS]
        found.append((*CONCRETENESS[:3], _find_concreteness(mine, ours.get(USA), CONCRETENESS[3])))
        found.append(("valence and arousal at human level", "at human level", FIRST, _find_level(mine)))
        for tuned, (before, after, version) in PAPER_COUNTS.items():
            # A model of the paper is set beside its own claim only; a stand-in beside both, without a verdict.
            if cfg.models[model].in_paper in {None, tuned}:
                finding = _find_aligned(mine, (after - before) / PAPER_ITEMS, china, language)
                told = f"{before} -> {after} of {PAPER_ITEMS}"
                found.append((f"answers aligned with China, {tuned}", told, version, finding))
        found.append(("tuned 7-8B models match or beat vanilla 70B", "match or beat", EVERY, _find_size(mine, large, china)))
        # What the sample or a small stand-in model shows is no test of the paper, however it comes out.
        reason = "made-up data" if cfg.is_sample else "" if cfg.models[model].in_paper else "other model"
        where = f"{model}, {'the sample' if cfg.is_sample else 'real norms'}"
        for claim, paper, version, finding in found:
            verdict = finding.get("verdict", UNTESTED)
            if reason and verdict != UNTESTED:
                verdict = f"{'as stated' if verdict == 'reproduced' else verdict}, {reason}"
            rows.append({"claim": claim, "paper": paper, "stands in": version, "on": where} | finding | {"verdict": verdict})
    return pd.DataFrame(rows, columns=PAPER_COLUMNS)


def _find_gain(metrics: pd.DataFrame, culture: str | None, goal: tuple[float, float]) -> dict:
    part = metrics[(metrics["culture"] == culture) & (metrics["subset"] == "all")]
    level = part[part["metric"] == PRECISION].set_index("stage")
    gap = part[(part["metric"] == f"{PRECISION}_difference") & (part["method"] == "ppo - few_shot")]
    if gap.empty or "few_shot" not in level.index:
        return NOT_MEASURED
    gap, before, after = gap.iloc[0], level.loc["few_shot", "value"], level.loc["ppo", "value"]
    text, gain = f"{before:.3f} -> {after:.3f}", 0.0
    # A vanilla model that no one can tell from the same answer to every cue has no base for a ratio.
    if not before or level.loc["few_shot", "low"] <= level["value"].reindex(["frequency", "chance"]).max():
        return _judge(f"{text} (no ratio: vanilla is at chance)", gap, gain, goal[0])
    gain = after / before - 1
    finding = _judge(f"{text} ({gain:+.0%})", gap, gain, goal[0])
    return finding | ({"verdict": "larger gain"} if finding["verdict"] == "reproduced" and round(gain, 2) > goal[1] else {})


def _find_concreteness(metrics: pd.DataFrame, culture: str | None, goal: float) -> dict:
    # Both over the cues which the two stages have; the stages' own medians are over different cues.
    part = metrics[(metrics["culture"] == culture) & (metrics["method"] == "ppo - few_shot")].set_index("metric")
    if not {"concreteness_median_difference", "concreteness_difference"} <= set(part.index):
        return NOT_MEASURED
    change, gap = part.loc["concreteness_median_difference", "value"], part.loc["concreteness_difference"]
    # The interval is of the mean of the paired differences: medians have none that is paired.
    return _judge(f"median {change:+.2f}, mean {gap['value']:+.2f}", gap, change, goal)


def _judge(text: str, gap: pd.Series, gain: float, goal: float) -> dict:
    verdict = "not seen" if gap["low"] <= 0 else "reproduced" if gain >= goal else "same direction"
    return {"here": text, **gap[["low", "high", "n"]], "verdict": verdict}


def _find_level(metrics: pd.DataFrame) -> dict:
    level = metrics[(metrics["metric"] == "human_level_p") & metrics["method"].isin(["valence", "arousal"])]
    level = level.dropna(subset="value").assign(equal=level["value"] < 0.05)
    part, people = level[level["stage"] == "ppo"], level[level["stage"] == "human_top5"]
    if part.empty:
        return {"here": "not measured", "details": "the test needs rated responses to two cues"}
    text = ", ".join(f"{row.method} {row.culture} p = {row.value:.2f}" for row in part.itertuples())
    # A list of five words cannot pass where people's own five strongest do not.
    verdict = "not testable" if not people["equal"].all() else "reproduced" if part["equal"].all() else "not seen"
    here = f"{part['equal'].sum()} of {len(part)} tests"
    return {"here": here, "n": part["n"].min(), "verdict": verdict, "details": f"equivalence (TOST): {text}"}


def _find_aligned(metrics: pd.DataFrame, goal: float, china: str | None, language: str | None) -> dict:
    asked = metrics[metrics["language"] == language]
    # Another culture's adapter as it is: a control of its own, whether the profile names it or not; of several that with most.
    foreign = (asked["stage"] == "sft") & (asked["culture"] != china)
    asked = asked.assign(stage=asked["stage"].mask(foreign, FOREIGN)).sort_values("value", ascending=False, kind="stable")
    asked = asked[(asked["culture"] == china) | asked["stage"].isin(["zero_shot", FOREIGN])]
    nearer, mode = _read_counts(asked, ALIGNED), _read_counts(asked, f"{ALIGNED}_mode")
    if not {"zero_shot", "ppo"} <= set(nearer.index):
        return NOT_MEASURED
    before, tuned = nearer.loc["zero_shot", "count"], nearer.loc["ppo"]
    after, n, p = tuned["count"], tuned["n"], tuned["p"]
    test = "random signs" if tuned["method"] == "random signs" else "McNemar"
    text = f"asked in Mandarin; {test} p = {p:.2f} after Holm"
    if {"zero_shot", "ppo"} <= set(mode.index):
        first, last = mode.loc[["zero_shot", "ppo"], "count"]
        text += f"; by the modal answer {first:g} -> {last:g} (p = {mode.loc['ppo', 'p']:.2f})"
    controls = nearer.loc[nearer.index.str.startswith("control_"), "count"]
    told = ", ".join(f"{stage.removeprefix('control_')} {count:g}" for stage, count in controls.items())
    own = metrics[
        metrics["metric"].str.startswith("shift_verdict_") & (metrics["culture"] == china) & (metrics["stage"] == "ppo")
    ]
    blind = (own.loc[own["language"] == language, "method"] == BLIND).to_numpy()
    verdict = "not measurable" if blind.any() and blind.all() and not p < 0.05 else "not seen"
    if after > before and p < 0.05:
        # Without one trained on wrong norms nothing tells these norms from any tuning.
        beaten = set(controls.index) - {FOREIGN} and (controls < after).all()
        verdict = "reproduced" if beaten and (after - before) / n >= goal else "same direction"
    return {
        "here": f"{before:g} -> {after:g} of {n:.0f}", "details": f"{text}; controls: {told or 'none'}", **tuned[["low", "high", "n"]],
        "verdict": verdict,
    }  # fmt: skip


def _read_counts(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`low, high, n, count` (a mean where there are several seeds), `p, method` by stage; p is NaN where nothing is tested."""
    part, tests = (
        metrics[metrics["metric"] == name].drop_duplicates("stage").set_index("stage") for name in (metric, f"{metric}_p_holm")
    )
    tests = tests[["value", "method"]].rename(columns={"value": "p"})
    return part[["low", "high", "n"]].assign(count=(part["value"] * part["n"]).round(1)).join(tests)


def _find_size(mine: pd.DataFrame, large: pd.DataFrame, china: str | None) -> dict:
    """Tuned models against vanilla ones of 70B, value against value wherever both were measured."""
    if large.empty:
        return {"here": "no 70B baseline in this run"}
    pairs = []
    for metric, stage, where in ((PRECISION, "few_shot", "culture"), (ALIGNED, "zero_shot", "language")):
        ours = mine[
            (mine["metric"] == metric) & (mine["stage"] == "ppo") & ((metric == PRECISION) | (mine["culture"] == china))
        ]
        theirs = large[(large["metric"] == metric) & (large["stage"] == stage)]
        pair = ours.merge(theirs[[where, "subset", "model", "value"]], on=[where, "subset"], suffixes=("", "_large"))
        pairs.append(pair.assign(asked=pair[where]))
    both = pd.concat(pairs, ignore_index=True)
    if both.empty:
        return {"here": "70B not asked the same"}
    text = "; ".join(
        f"{row.metric} {row.asked} {row.value:.2f} against {row.value_large:.2f} of {row.model_large}"
        for row in both.itertuples()
    )
    matched = both["value"] >= both["value_large"]
    verdict = "reproduced" if matched.all() else "same direction" if matched.any() else "not seen"
    # A baseline behind a URL is asked the survey alone, which is half of the claim. Intervals do not enter: fewer items would match more.
    verdict = verdict if PRECISION in set(both["metric"]) else UNTESTED
    return {"here": f"{matched.sum()} of {len(both)} measures", "n": both["n"].min(), "verdict": verdict, "details": text}


def describe_paper(*, level: float) -> pd.DataFrame:
    """The paper's counts with the uncertainty that their margins leave.

    `model, before, after, n`, Wilson intervals of both shares, `fisher_p` (as if independent), `mcnemar_low, mcnemar_high` (exact p over
    all paired tables with these margins).
    """
    rows, n = [], PAPER_ITEMS
    for model, (before, after, _) in PAPER_COUNTS.items():
        intervals = [*(end for count in (before, after) for end in wilson_interval(count, n, level=level))]
        rows.append([model, before, after, n, *intervals, fisher_exact(before, after, n), *bound_mcnemar(before, after, n)])
    names = ["before_low", "before_high", "after_low", "after_high", "fisher_p", "mcnemar_low", "mcnemar_high"]
    return pd.DataFrame(rows, columns=["model", "before", "after", "n", *names])


def bound_mcnemar(before: int, after: int, n: int) -> tuple[float, float]:
    """Smallest and largest exact McNemar p over all paired tables with so many items aligned `before` and `after`, of `n` each.

    >>> bound_mcnemar(0, 3, 10)  # nothing could be lost: one table alone
    (0.25, 0.25)
    """
    kept = range(max(0, before + after - n), min(before, after) + 1)
    found = [mcnemar_exact(after - both, before - both) for both in kept]
    return min(found), max(found)
