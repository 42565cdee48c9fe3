"""How far the seeds of the training lie apart in what notebooks 04 and 06 summarise: P@5; shifts, differences from controls, counts."""

from __future__ import annotations

import pandas as pd

from align_utils import shifts, stats
from align_utils.config import Config
from align_utils.stages import list_trained
from align_utils.yardsticks import STAGES

KEYS = ["measure", *shifts.CELL]
MEASURES = {"target": "shift toward target", "contrast": "contrast"}
ALONE = "one seed: no interval over seeds"


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
    tuned = moved[~moved["stage"].isin(shifts.BASELINES.values()) & moved["toward"].isin(MEASURES)]
    tuned = tuned.assign(measure=tuned["toward"].map(MEASURES), value=tuned["shift"]).sort_values(
        "toward", key=lambda column: column.map(list(MEASURES).index), kind="stable"
    )
    counted = judged[~judged["stage"].isin(["zero_shot", *STAGES])].rename(columns={"adapter": "culture"})
    counted = counted.assign(measure="aligned by " + counted["reading"], value=counted["aligned"].astype(float))
    above = _pair_controls(moved)
    columns = [*KEYS, "seed", "value"]
    parts = [part[columns] for part in (tuned, above, counted) if len(part)]
    table = spread_seeds(pd.concat(parts, ignore_index=True), KEYS, "value")
    table = table.merge(above.drop_duplicates(KEYS)[[*KEYS, "note"]], on=KEYS, how="left")
    return table.assign(note=table["note"].fillna(table["seeds"].map(lambda seeds: ALONE if seeds == 1 else "")))


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


def spread_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean of a column in every seed's run, and how far the seeds' means lie apart.

    Returns
    -------
    DataFrame
        `by` columns, a column a seed ('seed 7': its mean; NaN where a group lacks it), `mean` of the seeds' means, `sd` of them (n - 1;
        NaN for one seed), `seeds` (how many).

    Examples
    --------
    >>> frame = pd.DataFrame({"stage": "sft", "seed": [1, 1, 7, 7], "x": [0.0, 1.0, 2.0, 3.0]})
    >>> spread_seeds(frame, ["stage"], "x").round(3).values.tolist()
    [['sft', 0.5, 2.5, 1.5, 1.414, 2]]
    """
    means = frame.groupby([*by, "seed"], sort=False)[value].mean().rename("mean").reset_index()
    wide = means.pivot(index=by, columns="seed", values="mean")[list(dict.fromkeys(means["seed"]))]
    wide = wide.rename(columns=lambda name: f"seed {name}").reset_index()
    over = means.groupby(by, sort=False)["mean"].agg(mean="mean", sd="std", seeds="count").reset_index()
    table = over[by].merge(wide, on=by).merge(over, on=by)
    return table.rename_axis(columns=None)


def _pair_controls(moved: pd.DataFrame) -> pd.DataFrame:
    """Shift toward the target above every control, paired by item within a seed; `note` says where the two sides have not as many seeds."""
    part, by = moved[moved["toward"] == "target"], ["model", "culture", "language", "persona"]
    frames = [pd.DataFrame(columns=[*KEYS, "seed", "value", "note"])]
    for new, old in shifts.list_pairs(part):
        both = stats.pair_conditions(
            part, by, "shift", over="stage", new=new, old=old, paired=["question", "seed"], unit="question"
        )
        sizes = [part.loc[part["stage"] == stage, "seed"].nunique() for stage in (new, old)]
        note = None if sizes[0] == sizes[1] else f"seeds: {sizes[0]} of {new}, {sizes[1]} of {old}; compared within a seed"
        measure = f"shift above {old.removeprefix('control_')}"
        frames.append(both.assign(measure=measure, stage=new, value=both["difference"], note=note))
    return pd.concat(frames[1:] or frames, ignore_index=True)
