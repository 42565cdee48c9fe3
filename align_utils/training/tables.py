"""Training logs as tables: what a trainer wrote down, and what of it a reader wants to see."""

import math
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.norms.split import map_families
from align_utils.stats import pair_conditions, summarise
from align_utils.store.page import list_records
from align_utils.store.steps import note_read

# (Model, culture, stage) to the folder of an adapter.
Folders = dict[tuple[str, str, str], Path]
# What the table of a preference stage says where its chosen checkpoint is not above the SFT model.
NO_GAIN = "no gain over SFT on validation"
# Of the validation lists: where a gamed reward would show.
SIGNS = ("length", "duplicates", "copies", "listed", "frequent", "variety")
# The same as a reader is shown them.
PARTS_SHOWN = {
    "reward": "reward", "precision": "Precision@5 in it", "strength": "strength in it", "length": "different words a list",
    "duplicates": "repeated words", "copies": "copies of the cue", "listed": "texts that are lists",
    "frequent": "the five commonest words", "variety": "different words over all lists",
}  # fmt: skip


def read_logs(folders: Folders) -> pd.DataFrame:
    """Logs of finished trainings, one below the other: `log.csv`'s columns, `model, culture, stage`."""
    parts = [
        pd.read_csv(note_read(folder / "log.csv")).assign(model=model, culture=culture, stage=stage)
        for (model, culture, stage), folder in folders.items()
    ]
    return pd.concat(parts, ignore_index=True)


def summarise_losses(folders: Folders) -> pd.DataFrame:
    """Validation loss after the last step of trainings (`train_stages`): `model, culture, stage, n` (steps), `value` (nats per token)."""
    measured = read_logs(folders).dropna(subset="eval_loss").groupby(["model", "culture", "stage"], sort=False)
    return measured.agg(n=("step", "max"), value=("eval_loss", "last")).reset_index()


def _pick_checkpoints(log: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    # The SFT model, and the checkpoint that was kept.
    return log[log["update"] == 0].iloc[0], log[log["chosen"].eq(True)].iloc[0]


def summarise_parts(logs: pd.DataFrame) -> pd.DataFrame:
    """What the drawn validation lists are made of, of the SFT model and at the chosen checkpoint: a gamed reward would show here.

    Returns `model, culture, stage, part` (as PARTS_SHOWN names it), `value`.
    """
    rows = []
    for (model, culture, stage), log in logs.groupby(["model", "culture", "stage"], sort=False):
        for of, row in zip(("sft", stage), _pick_checkpoints(log), strict=True):
            rows += [[model, culture, of, text, row[f"{name}_valid"]] for name, text in PARTS_SHOWN.items()]
    return pd.DataFrame(rows, columns=["model", "culture", "stage", "part", "value"]).drop_duplicates(
        ["model", "culture", "stage", "part"], ignore_index=True
    )


def record_rewards(cfg: Config, folders: Folders) -> list[dict]:
    """Records of the reward of drawn validation lists, a preference stage beside the SFT model that it starts from.

    `ppo_reward_valid` of both (of other stages `preference_reward_valid`) and `ppo_reward_change`, paired by cue, with intervals over
    families (`n` counts cues); `ppo_commonest_change`, alike, of the share of the five commonest words; `ppo_kl` of the chosen checkpoint,
    in nats per list, NaN where that is the last update: no list is drawn after it.
    """
    families, by, records, weights = map_families(cfg), ["model", "culture"], [], cfg.profile.ppo.reward
    for (model, culture, stage), folder in folders.items():
        name = "ppo" if stage == "ppo" else "preference"
        lists = pd.read_parquet(note_read(folder / "drawn.parquet"))
        lists["reward"] = weights.precision * lists["precision"] + weights.strength * lists["strength"]
        lists["stage"] = lists["update"].map(lambda update, stage=stage: stage if update else "sft")
        means = (
            lists.groupby(["stage", "cue"], sort=False, as_index=False)[["reward", "frequent"]]
            .mean()
            .assign(model=model, culture=culture)
        )
        means["family"] = [families[culture, cue] for cue in means["cue"]]
        own = summarise(means, [*by, "stage"], "reward", unit="family", **cfg.bootstrap)
        records += list_records(own if stage == "ppo" else own[own["stage"] != "sft"], f"{name}_reward_valid", unit="reward")
        for value, metric, unit in (("reward", "reward_change", "reward"), ("frequent", "commonest_change", "share")):
            pairs = pair_conditions(means, by, value, over="stage", new=stage, old="sft", paired=["cue"], unit="family")
            change = summarise(pairs, by, "difference", unit="family", **cfg.bootstrap)
            records += list_records(change, f"{name}_{metric}", stage=stage, unit=unit)
        gain = summarise_rewards(read_logs({(model, culture, stage): folder})).rename(columns={"KL": "value"})
        records += list_records(gain, f"{name}_kl", stage=stage, unit="nats per list")
    return records


def summarise_rewards(logs: pd.DataFrame) -> pd.DataFrame:
    """The chosen checkpoint of each model and culture beside the SFT model.

    Returns `model, culture, updates, chosen update, valid reward SFT, valid reward PPO, KL` (to the SFT model, nats per list; NaN
    where the last update is chosen), `note` where the second reward is not above the first.
    """
    rows = []
    for (model, culture), log in logs.groupby(["model", "culture"], sort=False):
        start, chosen = _pick_checkpoints(log)
        # trl measures an update's KL on lists sampled before its step: the chosen checkpoint's own is the next one, if there is one.
        after = log.loc[log["update"] > chosen["update"], "kl"].dropna()
        rows.append({
            "model": model, "culture": culture, "updates": int(log["update"].max()), "chosen update": int(chosen["update"]),
            "valid reward SFT": start["reward_valid"], "valid reward PPO": chosen["reward_valid"],
            "KL": after.iloc[0] if len(after) else math.nan,
            "note": "" if chosen["reward_valid"] > start["reward_valid"] else NO_GAIN,
        })  # fmt: skip
    return pd.DataFrame(rows)


def compare_methods(logs: pd.DataFrame) -> pd.DataFrame:
    """Preference methods beside each other at their chosen checkpoints, with the signs of a gamed reward.

    One row a model, culture and stage, the SFT model in front: `updates, chosen update, valid reward, gain` over SFT, `KL` (nats per
    list), SIGNS of the validation lists (`reward.ListReward.describe`), `note` where there is no gain.
    """
    rows = []
    for (model, culture), part in logs.groupby(["model", "culture"], sort=False):
        untouched = {"updates": 0, "chosen update": 0, "KL": 0.0, "note": ""}
        for stage, log in [("sft", part), *part.groupby("stage", sort=False)]:
            start, chosen = _pick_checkpoints(log)
            row = start if stage == "sft" else chosen
            rows.append(
                (untouched if stage == "sft" else summarise_rewards(log).iloc[0].to_dict())
                | {"model": model, "culture": culture, "stage": stage, "valid reward": row["reward_valid"]}
                | {"gain": row["reward_valid"] - start["reward_valid"], **{name: row[f"{name}_valid"] for name in SIGNS}}
            )
    order = ["model", "culture", "stage", "updates", "chosen update", "valid reward", "gain", "KL"]
    return pd.DataFrame(rows)[[*order, *SIGNS, "note"]]


def sum_times(folders: Folders) -> pd.DataFrame:
    """Wall time of the updates of preference stages, validation left out; for showing, since it is never the same twice.

    Returns `model, culture, stage, updates, seconds an update, minutes`.
    """
    rows = []
    for cell, folder in folders.items():
        seconds = pd.read_csv(folder / "times.csv")["seconds"]
        rows.append([*cell, len(seconds), seconds.mean(), seconds.sum() / 60])
    return pd.DataFrame(rows, columns=["model", "culture", "stage", "updates", "seconds an update", "minutes"])
