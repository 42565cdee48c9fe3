"""Training logs as tables: what a trainer wrote down, and what of it a reader wants to see."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from align_utils.store.ledger import note_read

# What the table of a preference stage says where its chosen checkpoint is not above the SFT model.
NO_GAIN = "no gain over SFT on validation"
# Of the validation lists: where a gamed reward would show.
SIGNS = ("length", "duplicates", "copies", "listed", "frequent", "variety")


def tabulate_log(history: list[dict], names: dict[str, str]) -> pd.DataFrame:
    """A trainer's history as one row a step.

    Parameters
    ----------
    history : list of dict
        `trainer.state.log_history` of transformers; entries of one step are merged.
    names : dict
        Key in the history to column of the table.

    Returns
    -------
    DataFrame
        `step` and the named columns; NaN where a step has no such entry.
    """
    rows: dict[int, dict] = {}
    for entry in history:
        kept = {new: entry[old] for old, new in names.items() if old in entry}
        if kept:
            rows.setdefault(int(entry["step"]), {"step": int(entry["step"])}).update(kept)
    return pd.DataFrame([rows[step] for step in sorted(rows)], columns=["step", *names.values()])


def read_logs(folders: dict[tuple[str, str, str], Path]) -> pd.DataFrame:
    """Logs of finished trainings, one below the other: `log.csv`'s columns, `model, culture, stage`; keys are these three."""
    parts = [
        pd.read_csv(note_read(folder / "log.csv")).assign(model=model, culture=culture, stage=stage)
        for (model, culture, stage), folder in folders.items()
    ]
    return pd.concat(parts, ignore_index=True)


def summarise_losses(logs: pd.DataFrame) -> pd.DataFrame:
    """One row a model and culture: validation loss before and after SFT (nats per token), steps."""
    rows = []
    for (model, culture), part in logs.groupby(["model", "culture"], sort=False):
        known = part.dropna(subset="eval_loss")["eval_loss"]
        rows.append({
            "model": model, "culture": culture, "steps": int(part["step"].max()), "valid loss before": known.iloc[0],
            "valid loss after": known.iloc[-1],
        })  # fmt: skip
    return pd.DataFrame(rows)


def compare_losses(folders: dict[tuple[str, str, str], Path], taught: pd.DataFrame) -> pd.DataFrame:
    """`summarise_losses` of several stages beside each other, with what each was taught.

    Parameters
    ----------
    folders : dict
        (model, culture, stage) to the folder of its adapter, which holds `log.csv`; a stage may be named 'sft, seed 7'.
    taught : DataFrame
        From `training.summarise_taught`.

    Returns
    -------
    DataFrame
        `model, culture, stage, steps`, the columns of `taught`, `valid loss before, valid loss after`; the stages of a culture together.
    """
    parts = []
    for (model, culture, stage), folder in folders.items():
        log = pd.read_csv(folder / "log.csv").assign(model=model, culture=culture)
        parts.append(summarise_losses(log).assign(stage=stage))
    columns = taught.columns.drop(["culture", "stage"])
    table = pd.concat(parts).assign(kind=lambda frame: frame["stage"].str.split(",").str[0])
    table = table.merge(taught.rename(columns={"stage": "kind"}), on=["culture", "kind"], how="left", validate="many_to_one")
    table = table[["model", "culture", "stage", "steps", *columns, "valid loss before", "valid loss after"]]
    return table.sort_values(["model", "culture"], kind="stable", ignore_index=True)


def summarise_parts(logs: pd.DataFrame) -> pd.DataFrame:
    """What the validation lists are made of, before PPO and at the chosen checkpoint: a gamed reward would show here.

    Parameters
    ----------
    logs : DataFrame
        `model, culture, update, chosen` and columns `*_valid` (`rewards.PARTS`).

    Returns
    -------
    DataFrame
        `model, culture, part, SFT, PPO`, one row a part.
    """
    names = [name for name in logs.columns if name.endswith("_valid")]
    rows = []
    for (model, culture), part in logs.groupby(["model", "culture"], sort=False):
        before, after = part[part["update"] == 0].iloc[0], part[part["chosen"].eq(True)].iloc[0]
        rows += [
            {"model": model, "culture": culture, "part": name.removesuffix("_valid"), "SFT": before[name], "PPO": after[name]}
            for name in names
        ]
    return pd.DataFrame(rows)


def summarise_rewards(logs: pd.DataFrame) -> pd.DataFrame:
    """One row a model and culture: validation reward of the SFT model and of the chosen checkpoint, its KL to the SFT model, and a
    note where the second reward is not above the first."""
    rows = []
    for (model, culture), part in logs.groupby(["model", "culture"], sort=False):
        chosen = part[part["chosen"].eq(True)].iloc[0]
        start = part.loc[part["update"] == 0, "reward_valid"].iloc[0]
        # trl measures an update's KL on lists sampled before it: the chosen checkpoint's own is the next one, if there is one.
        after = part.loc[part["update"] > chosen["update"], "kl"].dropna()
        kl = after.iloc[0] if len(after) else part["kl"].dropna().iloc[-1]
        rows.append({
            "model": model, "culture": culture, "updates": int(part["update"].max()), "chosen update": int(chosen["update"]),
            "valid reward SFT": start, "valid reward PPO": chosen["reward_valid"], "KL": kl,
            "note": "" if chosen["reward_valid"] > start else NO_GAIN,
        })  # fmt: skip
    return pd.DataFrame(rows)


def compare_methods(logs: pd.DataFrame) -> pd.DataFrame:
    """Preference methods beside each other at their chosen checkpoints, with the signs of a gamed reward.

    Parameters
    ----------
    logs : DataFrame
        `model, culture, stage` and the columns of a preference stage's `log.csv`.

    Returns
    -------
    DataFrame
        One row a model, culture and stage, the SFT model in front: `updates`, `chosen update`, `valid reward`, `gain` over SFT,
        `KL` (nats per list), and of the validation lists `length` (distinct responses), `duplicates`, `copies`, `listed`,
        `frequent` (`rewards.describe_list`) and `variety`; `note` where there is no gain.
    """
    rows = []
    for (model, culture), part in logs.groupby(["model", "culture"], sort=False):
        start = part[part["update"] == 0].iloc[0]
        rows.append(
            _describe_lists(model, culture, "sft", start, start) | {"updates": 0, "chosen update": 0, "KL": 0.0, "note": ""}
        )
        for stage, log in part.groupby("stage", sort=False):
            (summary,) = summarise_rewards(log).to_dict("records")
            chosen = log[log["chosen"].eq(True)].iloc[0]
            kept = {name: summary[name] for name in ("updates", "chosen update", "KL", "note")}
            rows.append(_describe_lists(model, culture, stage, chosen, log[log["update"] == 0].iloc[0]) | kept)
    order = ["model", "culture", "stage", "updates", "chosen update", "valid reward", "gain", "KL"]
    return pd.DataFrame(rows)[[*order, *SIGNS, "note"]]


def _describe_lists(model: str, culture: str, stage: str, row: pd.Series, start: pd.Series) -> dict:
    parts = {name: row[f"{name}_valid"] for name in SIGNS}
    gain = row["reward_valid"] - start["reward_valid"]
    return {"model": model, "culture": culture, "stage": stage, "valid reward": row["reward_valid"], "gain": gain, **parts}


def sum_times(folders: dict[tuple[str, str, str], Path]) -> pd.DataFrame:
    """Wall time of the updates of stages, validation left out; for showing, since it is never the same twice.

    Parameters
    ----------
    folders : dict
        (Model, culture, stage) to the adapter's folder with `times.csv`.

    Returns
    -------
    DataFrame
        `model, culture, stage, updates, seconds an update, minutes`.
    """
    rows = []
    for (model, culture, stage), folder in folders.items():
        seconds = pd.read_csv(folder / "times.csv")["seconds"]
        rows.append([model, culture, stage, len(seconds), seconds.mean(), seconds.sum() / 60])
    return pd.DataFrame(rows, columns=["model", "culture", "stage", "updates", "seconds an update", "minutes"])
