"""What the notebooks of training say, in sentences made from metric records."""

from collections.abc import Mapping
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
    "up": "training on {name} leaves the loss above SFT's:", "down": "training on {name} leaves the loss below SFT's:",
    "flat": f"training on {{name}} leaves the loss within {SAME_LOSS} of SFT's:",
    "undecided": "training on {name} is not shown to leave the loss above SFT's, or below:",
}  # fmt: skip
# One more hit in five lists adds this much to their mean reward, with the profile's weights of it.
SAME_REWARD = 0.02
DRAWN = "the reward of lists drawn for concepts that were not rewarded"
ROSE = {
    "up": f"{{name}} raises {DRAWN}:", "down": f"{{name}} lowers {DRAWN}:", "flat": f"{{name}} leaves {DRAWN} where it was, within {SAME_REWARD}:",
    "undecided": f"the effect of {{name}} on {DRAWN} is unclear with {{n}} concepts:",
}  # fmt: skip
# The sign of a gamed reward, as `summarise_parts` names it, and the change that is too small to matter: one response in fifty.
SIGN, SAME_SHARE = "the five commonest words", 0.02
GAMED = {
    "up": f"the reward may be gamed: {SIGN} make up more of the lists,", "down": f"no sign of a gamed reward: {SIGN} make up less of the lists,",
    "flat": f"the share of {SIGN} in the lists stays within {SAME_SHARE} of what it was, so that any gaming of the reward is small:",
    "undecided": f"whether the share of {SIGN} in the lists rises, as with a gamed reward, " + "cannot be told from {n} concepts:",
}  # fmt: skip
# What a reward costs, gamed or not: lists of a concept that are more alike.
PRICE = "different words over all lists"
TAUGHT = {
    "control_shuffled": "shuffled cues", "control_other_culture": "the other culture's norms",
    "sft_same_size": "as few of the own cues as the other culture's norms cover",
}  # fmt: skip


def state_loss(records: list[dict], cfg: Config) -> Sentence:
    """Whether SFT lowers the loss on cues that it was not taught, and by how much, from the records of `record_losses`."""
    told, used = _tell(records, cfg, "sft_loss_change", "sft", SAME_LOSS, ".2f", of="sft_loss_valid", unit=" nats per token")
    if not told:
        return Sentence("loss", "The loss on held-out cues was not measured before and after tuning.", [])
    return Sentence(
        "loss",
        " ".join(
            [
                *write_verdicts(told, FELL),
                "Nats are units of surprise; to learn no more than the form of a list lowers them too.",
            ]
        ),
        used,
    )


def state_taught(records: list[dict], cfg: Config) -> Sentence:
    """How far the controls of the profile come without this culture's norms, from the records of `record_losses`."""
    parts, used = _write_stages(records, cfg, "sft_loss_gap", SAME_LOSS, ".2f", BEYOND, TAUGHT)
    none = (
        "This profile trains no control on wrong norms: how much of the fall the form of a list explains is not measured here."
    )
    return Sentence("taught", parts or none, used)


def state_reward(records: list[dict], cfg: Config) -> Sentence:
    """Whether PPO raises the reward of lists drawn for cues that it was not trained on, from the records of `record_rewards`."""
    told, used = _tell(records, cfg, "ppo_reward_change", "ppo", SAME_REWARD, ".3f", of="ppo_reward_valid", kl="ppo_kl")
    if not told:
        return Sentence("reward", "PPO was not trained in this run.", [])
    ppo, parts = cfg.profile.ppo, write_verdicts(told, _name(ROSE, "PPO"))
    if ppo.updates > ppo.eval_every:  # else there was one to choose
        parts.append(
            "The kept update was chosen by this very score, which flatters it; 04 judges it on concepts that chose nothing."
        )
    return Sentence("reward", " ".join(parts), used)


def state_gaming(records: list[dict], cfg: Config) -> Sentence:
    """Whether PPO's lists show a sign of a gamed reward, and its price: from `ppo_commonest_change` (`record_rewards`) and records `drawn_part`
    (`summarise_parts`; the part is their method)."""
    told, used = _tell(records, cfg, "ppo_commonest_change", "ppo", SAME_SHARE, ".3f", of="drawn_part", method=SIGN)
    paid = []
    for model, culture in product(cfg.models, cfg.cultures):
        own = {"model": model, "culture": culture, "method": PRICE}
        before, after = (pick_record(records, "drawn_part", stage=stage, **own) for stage in ("sft", "ppo"))
        if before and after:
            paid.append(f"from {100 * before['value']:.0f} % to {100 * after['value']:.0f} % ({cfg.label(model, culture)})")
            used += [before, after]
    parts = write_verdicts(told, GAMED)
    if paid:
        parts.append(f"Variety: of all words drawn, over all concepts, those that differ go {' and '.join(paid)}.")
    return Sentence(
        "gaming", " ".join(parts) or "No drawn lists before and after PPO to compare: a gamed reward would not show.", used
    )


def state_methods(records: list[dict], cfg: Config) -> Sentence:
    """What the preference methods without a critic do to the reward, from the records of `record_rewards`."""
    names = {stage: name.removeprefix("after ") for stage, name in cfg.names.items()}
    parts, used = _write_stages(records, cfg, "preference_reward_change", SAME_REWARD, ".3f", ROSE, names)
    return Sentence("methods", parts or "This profile trains no method without a critic.", used)


def state_seeds(records: list[dict], cfg: Config) -> Sentence:
    """How far the loss after SFT differs between the seeds of a run, from `sft_loss_seeds` records."""
    parts, used = [], []
    for cell in product(cfg.models, cfg.cultures):
        own = [one for one in records if (one["model"], one["culture"]) == cell and one["stage"] == "sft"]
        if len(own) > 1:
            used += own
            losses = sorted(record["value"] for record in own)
            parts.append(f"from {losses[0]:.2f} to {losses[-1]:.2f} nats per token for {cfg.call(*cell)} ({len(own)} seeds)")
    if not parts:
        return Sentence("seeds", "This profile trains with one seed: nothing is known of the spread between seeds.", [])
    return Sentence("seeds", f"Between seeds the loss after SFT goes {' and '.join(parts)}.", used)


def _name(texts: dict[str, str], name: str) -> dict[str, str]:
    return {verdict: text.replace("{name}", name) for verdict, text in texts.items()}


def _write_stages(
    records: list[dict], cfg: Config, change: str, margin: float, form: str, texts: dict[str, str], names: Mapping[str, str]
) -> tuple[str, list[dict]]:
    """The verdicts of every stage that has records of a change, each under its name, and those records."""
    used = [record for record in records if record["metric"] == change]
    parts = []
    for stage in dict.fromkeys(record["stage"] for record in used):
        told, _ = _tell(used, cfg, change, stage, margin, form)
        parts += write_verdicts(told, _name(texts, names[stage]))
    return " ".join(parts), used


def _tell(
    records: list[dict], cfg: Config, change: str, stage: str, margin: float, form: str, *, of: str = "", unit: str = "", kl: str = "", **fields
) -> tuple[dict[str, tuple[str, str, int]], list[dict]]:  # fmt: skip
    """Of each model and culture what `write_verdicts` reads of a stage's change: verdict, words and n; and the records behind them.

    `of` is the metric that changed (with these `fields`), told before and after, `kl` that of the distance gone.
    """
    told, used = {}, []
    for model, culture in product(cfg.models, cfg.cultures):
        own = {"model": model, "culture": culture}
        moved = pick_record(records, change, stage=stage, **own)
        if moved is None:
            continue
        words = write_interval(moved, f"+{form}")
        if of:
            stages = ("zero_shot" if stage == "sft" else "sft", stage)
            before, after = (pick_record(records, of, stage=one, **own, **fields) for one in stages)
            words = f"from {before['value']:{form}} to {after['value']:{form}}{unit}, {words}"
            used += [before, after]
        used.append(moved)
        if kl:
            gone = pick_record(records, kl, stage=stage, **own)
            # After a last update no list is drawn that would tell how far it went.
            words += "" if pd.isna(gone["value"]) else f", at a KL of {gone['value']:z.2f}"
            used.append(gone)
        told[cfg.label(model, culture)] = (judge_change(*(moved[end] for end in INTERVAL), margin=margin), words, moved["n"])
    return told, used
