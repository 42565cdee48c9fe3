"""What the notebooks of training say, in sentences made from metric records."""

from collections.abc import Callable
from itertools import product

from align_utils.config.profiles import Config
from align_utils.stats import judge_change
from align_utils.store.page import Sentence, pick_record
from align_utils.store.tables import INTERVAL, write_interval

# A loss within so many nats per token is the same: a token's probability is then off by a twentieth at most.
SAME_LOSS = 0.05
FELL = {
    "down": "less surprising than before", "up": "more surprising", "flat": "as surprising as before",
    "undecided": "perhaps less surprising",
}  # fmt: skip
BEYOND = {"up": "higher", "down": "lower", "flat": "the same", "undecided": "perhaps the same, perhaps not"}
# One more hit in five lists adds this much to their mean reward, with the profile's weights of it.
SAME_REWARD = 0.02
ROSE = {"up": "raises it", "down": "lowers it", "flat": "leaves it as it was", "undecided": "is not shown to change it"}
# Signs of a gamed reward as `summarise_parts` names them: the way each moves where the model pleases without getting better, the change that is
# too small to matter (half a word a list; one response in twenty), and its words.
SIGNS = {
    "different words a list": (-1, 0.5, "lists hold fewer different words"),
    "the five commonest words": (1, 0.05, "the five commonest words make up more of the lists"),
}
# What a reward costs, gamed or not: lists of a concept that are more alike.
PRICE = "different words over all lists"
SAME_VARIETY = 0.05
TAUGHT = {
    "control_shuffled": "every cue with another cue's list", "control_other_culture": "the other culture's norms",
    "sft_same_size": "its own norms, but as few cues as the other culture's cover",
}  # fmt: skip


def state_loss(records: list[dict], cfg: Config) -> Sentence:
    """Whether SFT lowers the loss on cues that it was not taught, and by how much, from the records of `record_losses`."""

    def tell(before: dict, after: dict, change: dict) -> str:
        return f"{before['value']:.2f} to {after['value']:.2f} nats per token ({write_interval(change, '+.2f')})"

    parts, used = _tell_changes(
        records, cfg, "sft_loss_valid", ("zero_shot", "sft"), ["sft_loss_change"], FELL, SAME_LOSS, tell
    )
    if not parts:
        return Sentence("loss", "The loss on held-out cues was not measured before and after tuning.", [])
    return Sentence("loss", f"After SFT, people's lists for concepts that were not taught are {'; '.join(parts)}.", used)


def state_taught(records: list[dict], cfg: Config) -> Sentence:
    """How far the controls of the profile come without this culture's norms, from the records of `record_losses`."""
    gaps = [record for record in records if record["metric"] == "sft_loss_gap"]
    if not gaps:
        text = "This profile trains no controls: how much of the fall the form of a list explains is not measured here."
        return Sentence("taught", text, [])
    parts: dict[str, list[str]] = {}
    for record in gaps:
        differs = BEYOND[judge_change(record["value"], record["low"], record["high"], margin=SAME_LOSS)]
        label = cfg.call(record["model"], record["culture"])
        parts.setdefault(record["stage"], []).append(f"{differs} for {label} ({write_interval(record, '+.2f')})")
    told = "; ".join(f"taught {TAUGHT[stage]}, {' and '.join(ends)}" for stage, ends in parts.items())
    return Sentence("taught", f"Where a model ends, beside SFT: {told}.", gaps)


def state_reward(records: list[dict], cfg: Config) -> Sentence:
    """Whether PPO raises the reward of lists drawn for cues that it was not trained on, from the records of `record_rewards`."""

    def tell(before: dict, after: dict, change: dict, moved: dict) -> str:
        interval = write_interval(change, "+.3f")
        return f"{before['value']:.3f} to {after['value']:.3f} ({interval}; KL {moved['value']:z.2f})"

    others = ["ppo_reward_change", "ppo_kl"]
    parts, used = _tell_changes(records, cfg, "ppo_reward_valid", ("sft", "ppo"), others, ROSE, SAME_REWARD, tell)
    if not parts:
        return Sentence("reward", "PPO was not trained in this run.", [])
    return Sentence("reward", f"The reward of lists drawn for concepts that were not rewarded: PPO {'; '.join(parts)}.", used)


def state_gaming(records: list[dict], cfg: Config) -> Sentence:
    """Whether PPO's lists show a sign of a gamed reward, and its price, from records `drawn_part` (`summarise_parts`; the part is their method)."""
    told: dict[str, list[str]] = {"gamed": [], "clean": [], "price": []}
    used = []
    for model, culture in product(cfg.models, cfg.cultures):
        own, label, pairs = {"model": model, "culture": culture}, cfg.call(model, culture), {}
        for part in (*SIGNS, PRICE):
            pair = [pick_record(records, "drawn_part", stage=stage, method=part, **own) for stage in ("sft", "ppo")]
            if None not in pair:
                used += pair
                pairs[part] = [record["value"] for record in pair]
        if not pairs:
            continue
        signs = [
            f"{text} ({before:.2f} to {after:.2f})"
            for part, (way, margin, text) in SIGNS.items() for before, after in [pairs[part]] if way * (after - before) > margin
        ]  # fmt: skip
        told["gamed" if signs else "clean"].append(f"{label}: {', and '.join(signs)}" if signs else label)
        before, after = pairs[PRICE]
        if before - after > SAME_VARIETY:
            told["price"].append(f"from {before:.0%} to {after:.0%} for {label}".replace("%", " %"))
    parts = [f"The reward may be gamed for {one}." for one in told["gamed"]]
    if told["clean"]:
        parts.append(
            f"No sign of a gamed reward for {' and '.join(told['clean'])}: the lists are as long as before, and the commonest words "
            "make up no more of them."
        )
    if told["price"]:
        parts.append(f"The price is variety: of all drawn words, those that differ fall {' and '.join(told['price'])}.")
    return Sentence("gaming", " ".join(parts) or "PPO was not trained in this run, so that no reward was gamed.", used)


def state_methods(records: list[dict], cfg: Config) -> Sentence:
    """What the preference methods without a critic do to the reward, from the records of `record_rewards`."""
    own = [record for record in records if record["metric"] == "preference_reward_change"]
    if not own:
        return Sentence("methods", "This profile trains no method without a critic.", [])
    parts = [
        f"{cfg.names[record['stage']].removeprefix('after ')} {ROSE[judge_change(*(record[end] for end in INTERVAL), margin=SAME_REWARD)]} for "
        f"{cfg.call(record['model'], record['culture'])} ({write_interval(record, '+.3f')})"
        for record in own
    ]  # fmt: skip
    text = f"The reward of lists drawn for concepts that were not rewarded, beside SFT: {'; '.join(parts)}."
    return Sentence("methods", text, own)


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


def _tell_changes(
    records: list[dict], cfg: Config, metric: str, stages: tuple[str, str], others: list[str], words: dict[str, str],
    margin: float, tell: Callable[..., str],
) -> tuple[list[str], list[dict]]:  # fmt: skip
    """The verdict on the change of each model and culture in `words`, what `tell` says of the records behind it, and these.

    The records are `metric` of the two stages, then the `others` of the second stage, the change first.
    """
    parts, used = [], []
    for cell in product(cfg.models, cfg.cultures):
        own = dict(zip(("model", "culture"), cell, strict=True))
        found = [pick_record(records, metric, stage=stage, **own) for stage in stages]
        found += [pick_record(records, name, stage=stages[1], **own) for name in others]
        if found[2] is not None:
            verdict = words[judge_change(*(found[2][end] for end in INTERVAL), margin=margin)]
            parts.append(f"{verdict} for {cfg.call(*cell)}, {tell(*found)}")
            used += found
    return parts, used
