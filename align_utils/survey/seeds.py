"""How far the seeds of the training lie apart in shifts, differences from controls, and counts of aligned items."""

from __future__ import annotations

import pandas as pd

from align_utils.stats import ALONE, pair_conditions, spread_seeds
from align_utils.survey.aligned import UNTESTED
from align_utils.survey.shifts import CELL, REFERENCE_SHIFTS, list_pairs

SEED_KEYS = ["measure", *CELL]
COLUMNS = [*SEED_KEYS, "seed", "value", "note"]
TOLD = {"target": "shift toward target", "contrast": "contrast"}


def summarise_seeds(shifts: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Mean of every seed, and the spread over seeds, of all that is tuned.

    `shifts` are those of `shifts.measure_shifts` and `judged` is of `aligned.judge_items`, both with `seed`.

    Returns
    -------
    DataFrame
        `measure` ('shift toward target', 'contrast', 'shift above <control>', 'aligned by nearer', 'aligned by mode'; shares for
        the last two), CELL, a column a seed, `mean, sd, seeds` (`spread_seeds`), `note` (that there is one seed; that the two
        sides of a difference have not as many).
    """
    tuned = shifts[~shifts["stage"].isin(REFERENCE_SHIFTS.values())]
    parts = [tuned[tuned["toward"] == toward].assign(measure=measure, value=tuned["shift"]) for toward, measure in TOLD.items()]
    parts += _pair_controls(shifts[shifts["toward"] == "target"])
    counted = judged[~judged["stage"].isin(UNTESTED)].rename(columns={"adapter": "culture"})
    parts.append(counted.assign(measure="aligned by " + counted["reading"], value=counted["aligned"].astype(float)))
    every = pd.concat([part.reindex(columns=COLUMNS) for part in parts if len(part)], ignore_index=True)
    table = spread_seeds(every, SEED_KEYS, "value")
    table = table.merge(every.drop_duplicates(SEED_KEYS)[[*SEED_KEYS, "note"]], on=SEED_KEYS, how="left")
    return table.assign(note=table["note"].fillna(table["seeds"].map(lambda seeds: ALONE if seeds == 1 else "")))


def _pair_controls(part: pd.DataFrame) -> list[pd.DataFrame]:
    """Shift toward the target above every control, paired by item within a seed; `note` says where the two sides have not as many seeds."""
    by, frames = ["model", "culture", "language", "persona"], []
    for new, old in list_pairs(part):
        both = pair_conditions(part, by, "shift", over="stage", new=new, old=old, paired=["question", "seed"], unit="question")
        sizes = [part.loc[part["stage"] == stage, "seed"].nunique() for stage in (new, old)]
        note = None if sizes[0] == sizes[1] else f"seeds: {sizes[0]} of {new}, {sizes[1]} of {old}; compared within a seed"
        measure = f"shift above {old.removeprefix('control_')}"
        frames.append(both.assign(measure=measure, stage=new, value=both["difference"], note=note))
    return frames
