"""Did the norms move the answers, and could it have been seen? The verdict, by rule."""

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import POSITIVE, TARGETS
from align_utils.stats import ALPHA
from align_utils.store.page import list_records
from align_utils.store.tables import INTERVAL, write_interval
from align_utils.survey.shifts import CELL, pick_own

BEYOND, UNMOVED = "moved beyond the controls", "not beyond the controls, although the instrument could see it"
BLIND, UNCONTROLLED = "not measurable with this model", "no verdict: this run has no control, or no other country"
AWAY = "moved away"
# What a positive control has to move at least, so that an instrument counts as one that sees: a hundredth of the scale, which is a tenth of a
# step of a ten-point scale; a twentieth of the difference between the countries.
LEAST = {"distance": 0.01, "slope": 0.05}
VERDICTS = [
    *CELL, "measure", "verdict", "value", "low", "high", "smallest", "control", "control_value", "control_low", "sentence",
]  # fmt: skip


def judge_verdicts(shifts: pd.DataFrame, controls: pd.DataFrame, slopes: pd.DataFrame) -> pd.DataFrame:
    """Did these norms move the answers? For every adapter of the culture's own norms and both measures a verdict, by rule.

    Seen: a positive control (POSITIVE: the persona, or an adapter taught half of the survey) of the same model, culture and
    language has moved toward its country on the same measure: an interval above 0, and LEAST; by distance also more than toward the other
    country, as flatter answers come nearer to both. Moved: the stage's own interval is above 0 and
    Holm's p below ALPHA; by distance so is the contrast's interval, where there is another country; and its paired difference
    to every control (shuffled, another culture's norms or adapter) has an interval above 0 and Holm's p below ALPHA.

    - BEYOND: moved, whether a positive control was seen or not.
    - UNMOVED: not moved, and seen.
    - BLIND: not moved, and not seen: nothing can be said of a shift.
    - AWAY: moved by LEAST or more the other way, with an interval below 0, from this country or from all: that needs no positive control.

    What seems to move in a run without any control, or by distance without another country, gets no verdict (UNCONTROLLED).

    `shifts, controls, slopes` are from `summarise_shifts`, `compare_controls` and `measure_slopes`. Returns VERDICTS: CELL,
    `measure` ('distance' or 'slope'), `verdict`, the stage's `value, low, high`, `smallest` (what would be seen with power 0.8
    at 5 %), the positive `control` with the highest lower end, its value and lower end, and `sentence` with the reasons.
    """
    against = controls[controls["toward"] == "target"]
    pairs = against["comparison"].str.split(" - ", expand=True).reindex(columns=[0, 1])
    against = against.assign(stage=pairs[0], against=pairs[1])
    target, contrast = (shifts[shifts["toward"] == toward] for toward in ("target", "contrast"))
    target = target.merge(contrast[[*CELL, *INTERVAL]], on=CELL, how="left", suffixes=("", "_other"))
    first, rows = slopes["against"] == "zero_shot", []
    for measure, own, rest in (("distance", target, against), ("slope", slopes[first], slopes[~first])):
        seen = (own["low"] > 0) & (own["value"] >= LEAST[measure])
        if measure == "distance" and len(contrast):
            seen &= own["low_other"] > 0
        for cell in own[own["stage"].isin(TARGETS)].itertuples():
            where = [getattr(cell, name) for name in CELL]
            held = rest[(rest[CELL] == where).all(axis=1)]
            positive = own["stage"].isin(POSITIVE) & (own[CELL] == where).drop(columns="stage").all(axis=1)
            best = own[positive].sort_values("low", na_position="first").tail(1)
            best = best.iloc[0] if len(best) else pd.Series({"stage": "none", "value": np.nan, "low": np.nan})
            own_move = _write_move(cell.value, cell.low, cell.high)
            reasons = [] if cell.low > 0 else [f"{own_move} is not above 0"]
            reasons += (
                [f"{own_move} is above 0, but p = {cell.p_holm:.2f} after Holm"]
                if cell.low > 0 and not cell.p_holm < ALPHA
                else []
            )
            beside = measure == "slope" or pd.notna(cell.value_other)
            if measure == "distance" and beside and not cell.low_other > 0:
                other = _write_move(cell.value_other, cell.low_other, cell.high_other)
                reasons.append(f"no more toward the target than toward the other country, {other}")
            beaten = (held["low"] > 0) & (held["p_holm"] < ALPHA)
            reasons += [f"not above {', '.join(held['against'][~beaten])}"] if not beaten.all() else []
            moved = BEYOND if len(held) and beside else UNCONTROLLED
            away = cell.high < 0 and cell.value <= -LEAST[measure]
            verdict = moved if not reasons else AWAY if away else UNMOVED if seen[positive].any() else BLIND
            why = "; ".join(reasons) or f"{own_move}, above {', '.join(held['against']) or 'no control'}"
            told = f"best positive control {best['stage']} {best['value']:+.3f}, lower end {best['low']:+.3f}"
            sentence = f"{cell.culture} {cell.stage}, asked in {cell.language}, by {measure}: {verdict} ({why}; {told}; smallest visible "
            sentence += f"{cell.smallest:.3f})."
            found = [cell.value, cell.low, cell.high, cell.smallest, *best[["stage", "value", "low"]]]
            rows.append([*where, measure, verdict, *found, sentence])
    return pd.DataFrame(rows, columns=VERDICTS)


def list_own_verdicts(cfg: Config, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Rows of `judge_verdicts` for the main line: the last stage of every culture asked in its own language, with two columns in words, what
    the tuned answers did (`moved by`) and the `best positive control`, and `smallest visible`."""
    part = pick_own(cfg.cultures, verdicts)
    part = part[part["stage"] == next((stage for stage in ("ppo", "sft") if stage in set(part["stage"])), None)]
    best = [
        "none" if pd.isna(row.control_value) else f"{cfg.names.get(row.control, row.control)}: {row.control_value:+.3f}, at least {row.control_low:+.3f}"
        for row in part.itertuples()
    ]  # fmt: skip
    moved = [write_interval(row, "+.3f") for row in part.to_dict("records")]
    return part.assign(**{"moved by": moved, "best positive control": best, "smallest visible": part["smallest"]})


def record_verdicts(verdicts: pd.DataFrame) -> list[dict]:
    """Metric records of `judge_verdicts`, by measure: `shift_verdict_distance` and `shift_verdict_slope` (the stage's value and interval, the
    verdict as its method), `smallest_visible_distance` and `smallest_visible_slope`."""
    records = []
    for measure, part in verdicts.groupby("measure", sort=False):
        records += list_records(part.rename(columns={"verdict": "method"}), f"shift_verdict_{measure}", unit=measure)
        smallest = part.drop(columns=["low", "high"]).assign(value=part["smallest"])
        records += list_records(smallest.dropna(subset="value"), f"smallest_visible_{measure}", unit=measure)
    return records


def _write_move(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
