"""What the notebooks of training say, in sentences made from metric records."""

from collections.abc import Callable
from itertools import product

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.lexical.sentences import write_verdicts
from align_utils.stats import judge_change
from align_utils.store.page import Sentence, pick_record
from align_utils.store.tables import INTERVAL, write_interval

# A loss within so many nats per token is the same: a token's probability is then off by a twentieth at most.
SAME_LOSS = 0.05
LISTS = "people's lists for concepts that were not taught are"
FELL = {
    "down": f"after SFT {LISTS} less surprising than before:", "up": f"after SFT {LISTS} more surprising than before:",
    "flat": f"after SFT {LISTS} as surprising as before, within {SAME_LOSS} nats:",
    "undecided": "whether SFT makes people's lists less surprising cannot be told from {n} concepts:",
}  # fmt: skip
BEYOND = {
    "up": "leaves the loss above SFT's:", "down": "leaves the loss below SFT's:", "flat": f"leaves the loss within {SAME_LOSS} of SFT's:",
    "undecided": "is not shown to leave the loss above SFT's, or below:",
}  # fmt: skip
# One more hit in five lists adds this much to their mean reward, with the profile's weights of it.
SAME_REWARD = 0.02
DRAWN = "the reward of lists drawn for concepts that were not rewarded"
ROSE = {
    "up": f"{{name}} raises {DRAWN}:", "down": f"{{name}} lowers {DRAWN}:", "flat": f"{{name}} leaves {DRAWN} where it was, within {SAME_REWARD}:",
    "undecided": f"what {{name}} does to {DRAWN} cannot be told from {{n}} concepts:",
}  # fmt: skip
# The sign of a gamed reward, as `summarise_parts` names it, and the change that is too small to matter: one response in twenty.
SIGN, SAME_SHARE = "the five commonest words", 0.05
GAMED = {
    "up": f"the reward may be gamed: {SIGN} make up more of the lists,", "down": f"no sign of a gamed reward: {SIGN} make up less of the lists,",
    "flat": f"any gaming of the reward is small: the share of {SIGN} in the lists changes by no more than {SAME_SHARE},",
    "undecided": f"whether the share of {SIGN} in the lists rises, as with a gamed reward, " + "cannot be told from {n} concepts:",
}  # fmt: skip
# What a reward costs, gamed or not: lists of a concept that are more alike.
PRICE = "different words over all lists"
SAME_VARIETY = 0.05
TAUGHT = {
    "control_shuffled": "shuffled cues", "control_other_culture": "the other culture's norms",
    "sft_same_size": "as few of the own cues as the other culture's norms cover",
}  # fmt: skip


def state_loss(records: list[dict], cfg: Config) -> Sentence:
    """Whether SFT lowers the loss on cues that it was not taught, and by how much, from the records of `record_losses`."""

    def tell(before: dict, after: dict, change: dict) -> str:
        return f"from {before['value']:.2f} to {after['value']:.2f} nats per token, {write_interval(change, '+.2f')}"

    told, used = _tell_changes(records, cfg, "sft_loss_valid", ("zero_shot", "sft"), ["sft_loss_change"], SAME_LOSS, tell)
    if not told:
        return Sentence("loss", "The loss on held-out cues was not measured before and after tuning.", [])
    return Sentence(
        "loss", " ".join([*write_verdicts(told, FELL), "Nats are units of surprise, by the natural logarithm."]), used
    )


def state_taught(records: list[dict], cfg: Config) -> Sentence:
    """How far the controls of the profile come without this culture's norms, from the records of `record_losses`."""
    gaps = [record for record in records if record["metric"] == "sft_loss_gap"]
    if not gaps:
        text = "This profile trains no controls: how much of the fall the form of a list explains is not measured here."
        return Sentence("taught", text, [])
    parts = []
    for stage in dict.fromkeys(record["stage"] for record in gaps):
        told = _tell_stage(gaps, cfg, stage, SAME_LOSS, "+.2f")
        parts += write_verdicts(told, {verdict: f"training on {TAUGHT[stage]} {text}" for verdict, text in BEYOND.items()})
    return Sentence("taught", " ".join(parts), gaps)


def state_reward(records: list[dict], cfg: Config) -> Sentence:
    """Whether PPO raises the reward of lists drawn for cues that it was not trained on, from the records of `record_rewards`."""

    def tell(before: dict, after: dict, change: dict, moved: dict) -> str:
        # After a last update no list is drawn that would tell how far it went.
        kl = "" if pd.isna(moved["value"]) else f", at a KL of {moved['value']:z.2f}"
        return f"from {before['value']:.3f} to {after['value']:.3f}, {write_interval(change, '+.3f')}{kl}"

    others = ["ppo_reward_change", "ppo_kl"]
    told, used = _tell_changes(records, cfg, "ppo_reward_valid", ("sft", "ppo"), others, SAME_REWARD, tell)
    if not told:
        return Sentence("reward", "PPO was not trained in this run.", [])
    chosen = "The kept update was chosen by this very score, which flatters it; 04 judges it on concepts that chose nothing."
    return Sentence("reward", " ".join([*write_verdicts(told, _name_method("PPO")), chosen]), used)


def state_gaming(records: list[dict], cfg: Config) -> Sentence:
    """Whether PPO's lists show a sign of a gamed reward, and its price: from `ppo_commonest_change` (`record_rewards`) and records `drawn_part`
    (`summarise_parts`; the part is their method)."""

    def tell(before: dict, after: dict, change: dict) -> str:
        return f"from {before['value']:.3f} to {after['value']:.3f}, {write_interval(change, '+.3f')}"

    stages = ("sft", "ppo")
    told, used = _tell_changes(records, cfg, "drawn_part", stages, ["ppo_commonest_change"], SAME_SHARE, tell, method=SIGN)
    paid = []
    for model, culture in product(cfg.models, cfg.cultures):
        own = {"model": model, "culture": culture, "method": PRICE}
        pair = [pick_record(records, "drawn_part", stage=stage, **own) for stage in stages]
        if None not in pair and pair[0]["value"] - pair[1]["value"] > SAME_VARIETY:
            paid.append(
                "from {:.0f} % to {:.0f} %".format(*(100 * one["value"] for one in pair)) + f" ({cfg.label(model, culture)})"
            )
            used += pair
    parts = write_verdicts(told, GAMED)
    if paid:
        parts.append(f"The price is variety: of all drawn words, those that differ fall {' and '.join(paid)}.")
    return Sentence(
        "gaming", " ".join(parts) or "No drawn lists before and after PPO to compare: a gamed reward would not show.", used
    )


def state_methods(records: list[dict], cfg: Config) -> Sentence:
    """What the preference methods without a critic do to the reward, from the records of `record_rewards`."""
    own = [record for record in records if record["metric"] == "preference_reward_change"]
    if not own:
        return Sentence("methods", "This profile trains no method without a critic.", [])
    parts = []
    for stage in dict.fromkeys(record["stage"] for record in own):
        told = _tell_stage(own, cfg, stage, SAME_REWARD, "+.3f")
        parts += write_verdicts(told, _name_method(cfg.names[stage].removeprefix("after ")))
    return Sentence("methods", " ".join(parts), own)


def state_seeds(records: list[dict], cfg: Config) -> Sentence:
    """How far the loss after SFT differs between the seeds of a run, from `sft_loss_seeds` records."""
    parts, used = [], []
    tuned = [record for record in records if record["stage"].split(",")[0] == "sft"]
    for cell in product(cfg.models, cfg.cultures):
        own = [record for record in tuned if (record["model"], record["culture"]) == cell]
        if len(own) > 1:
            used += own
            low, high = (pick(record["value"] for record in own) for pick in (min, max))
            parts.append(f"from {low:.2f} to {high:.2f} nats per token for {cfg.call(*cell)} ({len(own)} seeds)")
    if not parts:
        return Sentence("seeds", "This profile trains with one seed: nothing is known of the spread between seeds.", [])
    return Sentence("seeds", f"Between seeds the loss after SFT goes {' and '.join(parts)}.", used)


def _judge(change: dict, margin: float) -> str:
    return judge_change(*(change[end] for end in INTERVAL), margin=margin)


def _tell_stage(records: list[dict], cfg: Config, stage: str, margin: float, form: str) -> dict[str, tuple[str, str, int]]:
    """Of each model and culture what `write_verdicts` reads of a stage's change."""
    return {
        cfg.label(record["model"], record["culture"]): (_judge(record, margin), write_interval(record, form), record["n"])
        for record in records if record["stage"] == stage
    }  # fmt: skip


def _name_method(name: str) -> dict[str, str]:
    return {verdict: text.replace("{name}", name) for verdict, text in ROSE.items()}


def _tell_changes(
    records: list[dict], cfg: Config, metric: str, stages: tuple[str, str], others: list[str], margin: float, tell: Callable[..., str],
    **fields,
) -> tuple[dict[str, tuple[str, str, int]], list[dict]]:  # fmt: skip
    """Of each model and culture what `write_verdicts` reads of a change: its verdict, what `tell` says of the records behind it, and n.

    The records are `metric` (with these `fields`) of the two stages, then the `others` of the second stage, the change first.
    """
    told, used = {}, []
    for cell in product(cfg.models, cfg.cultures):
        own = dict(zip(("model", "culture"), cell, strict=True))
        found = [pick_record(records, metric, stage=stage, **own, **fields) for stage in stages]
        found += [pick_record(records, name, stage=stages[1], **own) for name in others]
        if found[2] is not None:
            told[cfg.label(*cell)] = (_judge(found[2], margin), tell(*found), found[2]["n"])
            used += found
    return told, used
