"""How far the seeds of the training lie apart in what notebooks 04 and 06 summarise: P@5; shifts, differences from controls, counts."""

from __future__ import annotations

import pandas as pd

from align_utils.stats import ALONE, pair_conditions, spread_seeds
from align_utils.survey.distances import YARDSTICKS
from align_utils.survey.shifts import BASELINES, CELL, list_pairs

SEED_KEYS = ["measure", *CELL]
SEED_MEASURES = {"target": "shift toward target", "contrast": "contrast"}


def summarise_seeds(moved: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Mean of every seed, and the spread over seeds, of all that is tuned.

    Parameters
    ----------
    moved : DataFrame
        From `shifts.add_contrast(shifts.find_controls(...))`, with `seed`.
    judged : DataFrame
        From `tension.judge_items`, with `seed`.

    Returns
    -------
    DataFrame
        `measure` ('shift toward target', 'contrast', 'shift above <control>', 'aligned by nearer', 'aligned by mode'; shares for
        the last two), CELL, a column a seed, `mean, sd, seeds` (`spread_seeds`), `note` (that there is one seed; that the two
        sides of a difference have not as many).
    """
    tuned = moved[~moved["stage"].isin(BASELINES.values()) & moved["toward"].isin(SEED_MEASURES)]
    tuned = tuned.assign(measure=tuned["toward"].map(SEED_MEASURES), value=tuned["shift"]).sort_values(
        "toward", key=lambda column: column.map(list(SEED_MEASURES).index), kind="stable"
    )
    counted = judged[~judged["stage"].isin(["zero_shot", *YARDSTICKS])].rename(columns={"adapter": "culture"})
    counted = counted.assign(measure="aligned by " + counted["reading"], value=counted["aligned"].astype(float))
    above = _pair_controls(moved)
    columns = [*SEED_KEYS, "seed", "value"]
    parts = [part[columns] for part in (tuned, above, counted) if len(part)]
    table = spread_seeds(pd.concat(parts, ignore_index=True), SEED_KEYS, "value")
    table = table.merge(above.drop_duplicates(SEED_KEYS)[[*SEED_KEYS, "note"]], on=SEED_KEYS, how="left")
    return table.assign(note=table["note"].fillna(table["seeds"].map(lambda seeds: ALONE if seeds == 1 else "")))


def _pair_controls(moved: pd.DataFrame) -> pd.DataFrame:
    """Shift toward the target above every control, paired by item within a seed; `note` says where the two sides have not as many seeds."""
    part, by = moved[moved["toward"] == "target"], ["model", "culture", "language", "persona"]
    frames = [pd.DataFrame(columns=[*SEED_KEYS, "seed", "value", "note"])]
    for new, old in list_pairs(part):
        both = pair_conditions(part, by, "shift", over="stage", new=new, old=old, paired=["question", "seed"], unit="question")
        sizes = [part.loc[part["stage"] == stage, "seed"].nunique() for stage in (new, old)]
        note = None if sizes[0] == sizes[1] else f"seeds: {sizes[0]} of {new}, {sizes[1]} of {old}; compared within a seed"
        measure = f"shift above {old.removeprefix('control_')}"
        frames.append(both.assign(measure=measure, stage=new, value=both["difference"], note=note))
    return pd.concat(frames[1:] or frames, ignore_index=True)
