"""Training logs as tables: what a trainer wrote down, and what of it a reader wants to see."""

from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.norms.split import map_families
from align_utils.stats import pair_conditions, summarise
from align_utils.store.page import list_records
from align_utils.store.steps import note_read

# (Model, culture, stage, seed) to the folder of an adapter, as `train.train_stages` returns them.
Folders = dict[tuple[str, str, str, int], Path]
# What the table of a preference stage says where its chosen checkpoint is not above the SFT model.
NO_GAIN = "no gain over SFT on validation"
CELL = ["model", "culture", "stage"]
TRAINING = [*CELL, "seed"]
# Of the validation lists what a reader is shown: the reward with its parts, then where a gamed one would show.
PARTS_SHOWN = {
    "reward": "reward", "precision": "Precision@5 in it", "strength": "strength in it", "length": "different words a list",
    "duplicates": "repeated words", "copies": "copies of the cue", "listed": "texts that are lists",
    "frequent": "the five commonest words", "variety": "different words over all lists",
}  # fmt: skip
SIGNS = tuple(PARTS_SHOWN)[3:]


def read_logs(folders: Folders) -> pd.DataFrame:
    """Logs of finished trainings, one below the other: `log.csv`'s columns, `model, culture, stage, seed`."""
    parts = [
        pd.read_csv(note_read(path / "log.csv")).assign(**dict(zip(TRAINING, cell, strict=True)))
        for cell, path in folders.items()
    ]
    return pd.concat(parts, ignore_index=True)


def summarise_losses(folders: Folders) -> pd.DataFrame:
    """Validation loss after the last step of trainings (`train_stages`): `model, culture, stage, seed, n` (steps), `value` (nats per token)."""
    measured = read_logs(folders).dropna(subset="eval_loss").groupby(TRAINING, sort=False)
    return measured.agg(n=("step", "max"), value=("eval_loss", "last")).reset_index()


def _pick_checkpoints(logs: pd.DataFrame) -> pd.DataFrame:
    """Of each seed the row of the SFT model, as the stage `sft`, and the one of the checkpoint that each preference stage kept.

    Beside the log's columns `updates` (of the training), `KL` (nats per list; NaN where the last update is kept) and `gain` over the SFT model.
    """
    trainings = logs.groupby(TRAINING, sort=False)
    logs = logs.assign(
        updates=trainings["update"].transform("max"),
        # trl measures an update's KL on lists sampled before its step: the kept checkpoint's own is the next one, if there is one.
        KL=trainings["kl"].transform(lambda kl: kl.shift(-1).bfill()),
        gain=logs["reward_valid"] - trainings["reward_valid"].transform("first"),
    )
    before = logs["update"] == 0
    logs.loc[before, ["stage", "updates", "KL"]] = ["sft", 0, 0.0]
    return logs[before | logs["chosen"].eq(True)].drop_duplicates(TRAINING)


def summarise_parts(logs: pd.DataFrame) -> pd.DataFrame:
    """What the reward of the validation lists is made of, before and after: of the SFT model and the kept checkpoints, means over seeds.

    Returns `model, culture, stage, part` (as PARTS_SHOWN names it), `value`.
    """
    parts = _pick_checkpoints(logs).groupby(CELL, sort=False)[[f"{name}_valid" for name in PARTS_SHOWN]].mean()
    return parts.set_axis(list(PARTS_SHOWN.values()), axis=1).rename_axis(columns="part").stack().rename("value").reset_index()


def record_rewards(cfg: Config, folders: Folders) -> list[dict]:
    """Records of the reward of drawn validation lists, a preference stage beside the SFT model that it starts from.

    `folders` are of `train_stages`, of one seed or of several, which are taken together. `ppo_reward_valid` of both stages (of other stages
    than PPO `preference_reward_valid`) and `ppo_reward_change`, paired by cue and seed, with intervals over families and seeds (`n` counts
    cues); `ppo_commonest_change`, alike, of the share of the five commonest words; `ppo_kl` of the chosen checkpoints, in nats per list,
    NaN where each is the last update: no list is drawn after it.
    """
    families, by, records, weights = map_families(cfg), CELL[:2], [], cfg.profile.ppo.reward
    for model, culture, stage in dict.fromkeys(cell[:3] for cell in folders):
        own = {cell: folder for cell, folder in folders.items() if cell[:3] == (model, culture, stage)}
        name = "ppo" if stage == "ppo" else "preference"
        lists = pd.concat(
            pd.read_parquet(note_read(folder / "drawn.parquet")).assign(seed=cell[3]) for cell, folder in own.items()
        )
        lists = lists.assign(model=model, culture=culture, stage=np.where(lists["update"] > 0, stage, "sft"))
        lists["reward"] = weights.precision * lists["precision"] + weights.strength * lists["strength"]
        means = lists.groupby([*CELL, "seed", "cue"], sort=False, as_index=False)[["reward", "frequent"]].mean()
        means["family"] = [families[culture, cue] for cue in means["cue"]]
        over = {"unit": "family", "run": "seed", **cfg.bootstrap}
        both = summarise(means, CELL, "reward", **over)
        records += list_records(both if stage == "ppo" else both[both["stage"] != "sft"], f"{name}_reward_valid", unit="reward")
        for value, metric, unit in (("reward", "reward_change", "reward"), ("frequent", "commonest_change", "share")):
            pairs = pair_conditions(means, by, value, over="stage", new=stage, old="sft", paired=["cue", "seed"], unit="family")
            records += list_records(summarise(pairs, by, "difference", **over), f"{name}_{metric}", stage=stage, unit=unit)
        kl = (
            _pick_checkpoints(read_logs(own))
            .query("stage != 'sft'")
            .groupby(by, as_index=False)["KL"]
            .mean()
            .rename(columns={"KL": "value"})
        )
        records += list_records(kl, f"{name}_kl", stage=stage, unit="nats per list")
    return records


def compare_methods(logs: pd.DataFrame) -> pd.DataFrame:
    """Preference methods beside each other at their chosen checkpoints, with the signs of a gamed reward.

    One row a model, culture and stage, the SFT model in front: `updates, chosen update, valid reward, gain` over SFT, `KL` (nats per
    list), SIGNS of the validation lists (`reward.ListReward.describe`), `note` where there is no gain.
    """
    names = {"update": "chosen update", "reward_valid": "valid reward", **{f"{name}_valid": name for name in SIGNS}}
    order = [*CELL, "updates", "update", "reward_valid", "gain", "KL", *(f"{name}_valid" for name in SIGNS)]
    table = _pick_checkpoints(logs)[order].rename(columns=names).reset_index(drop=True)
    return table.assign(note=np.where((table["gain"] > 0) | (table["stage"] == "sft"), "", NO_GAIN))


def sum_times(folders: Folders) -> pd.DataFrame:
    """Wall time of the updates of preference stages, validation left out; for showing, since it is never the same twice.

    Returns `model, culture, stage, seed, updates, seconds an update, minutes`.
    """
    rows = []
    for cell, folder in folders.items():
        seconds = pd.read_csv(folder / "times.csv")["seconds"]
        rows.append([*cell, len(seconds), seconds.mean(), seconds.sum() / 60])
    return pd.DataFrame(rows, columns=[*TRAINING, "updates", "seconds an update", "minutes"])
