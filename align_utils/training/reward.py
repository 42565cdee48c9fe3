"""The reward of a list, the same for every preference method, and the signs of a reward that is gamed."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Reward
from align_utils.lexical.precision import map_strengths, score_reward, split_reward
from align_utils.models.prompts import draw_lists, parse_list, split_parts
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import TrainingError

# What a list's reward is made of, and where a gamed one shows: short lists, words that fit everything.
PARTS = ("precision", "strength", "length", "duplicates", "copies", "listed", "frequent")


class RewardError(TrainingError):
    """A prompt came back from trl in a form that the reward does not know, or the norms give no finite reward."""


class ListReward:
    """The reward of generated lists; what the rewards were made of is kept for the log (`PARTS`).

    `strengths` maps a cue to its responses' strengths (`lexical.map_strengths`); the `frequent` responses are those of `taught`,
    by default of the same cues.
    """

    def __init__(self, strengths: dict, language: Language, settings: Reward, *, taught: dict | None = None):
        self.strengths, self.language, self.settings = strengths, language, settings
        self.common = find_common(strengths if taught is None else taught, k=settings.k)
        self.scored: list[dict] = []

    def score(self, cue: str, text: str) -> float:
        """Reward of one generated text, in [0, 1]: parsed, then `lexical.score_reward`; noted for the log."""
        self.scored.append(self.describe(cue, text, parse_list(self.language, text, cue=cue)))
        return self.rate(cue, text)

    def rate(self, cue: str, text: str) -> float:
        """As `score`, and nothing is noted: for parts of a text."""
        words = parse_list(self.language, text, cue=cue)
        reward = score_reward(words, self.strengths[cue], self.language, self.settings)
        if not math.isfinite(reward):
            raise RewardError(
                f"the reward of {words} for the cue '{cue}' is {reward}: its strengths in the norms are not numbers"
            )
        return reward

    def describe(self, cue: str, text: str, words: list[str]) -> dict[str, float]:
        """PARTS of one list: `precision, strength` (`lexical.split_reward`), `length` (distinct responses), `duplicates` and `copies`
        (shares of the parts that repeat a response, or the cue), `listed` (1 where the text is a list of two parts or more),
        `frequent` (share of the responses that are common to everything); shares of an empty list are NaN."""
        normalise, parts = self.language.normalise, split_parts(text)
        precision, strength = split_reward(words, self.strengths[cue], self.language, k=self.settings.k)
        copies = sum(normalise(part) == normalise(cue) for part in parts)
        return {
            "precision": precision, "strength": strength, "length": len(words),
            "duplicates": (len(parts) - copies - len(words)) / len(parts) if parts else math.nan,
            "copies": copies / len(parts) if parts else math.nan, "listed": float(len(parts) > 1),
            "frequent": sum(normalise(word) in self.common for word in words) / len(words) if words else math.nan,
        }  # fmt: skip

    def tabulate_parts(self, lists: int) -> pd.DataFrame:
        """`update` (from 1) and the mean of each of PARTS over the `lists` that this process scored in it."""
        frame = pd.DataFrame(self.scored, columns=PARTS)
        return frame.groupby(frame.index // lists + 1).mean().rename_axis("update").reset_index()


def find_common(strengths: dict[str, dict[str, float]], *, k: int) -> set[str]:
    """The k responses with the largest sum of strengths over all cues: the frequency baseline's answer to everything."""
    totals: Counter[str] = Counter()
    for table in strengths.values():
        totals.update(table)
    return set(sorted(totals, key=lambda word: (-totals[word], word))[:k])


def show_rewards(cfg: Config, people: dict[str, CultureNorms]) -> pd.DataFrame:
    """The reward worked on three lists for one training cue of each culture: the best, the same word twice, another cue's.

    Parameters
    ----------
    people : dict
        Culture to its norms and cues (`norms.load_run`).

    Returns
    -------
    DataFrame
        `culture, cue, list, reward` (in [0, 1]).
    """
    rows, settings = [], cfg.profile.ppo.reward
    for culture, own in people.items():
        language, (cue, other) = cfg.language_of(culture), own.cues["train"][:2]
        best, foreign = draw_lists(own.norms, [cue, other], length=settings.k, order="strength", seed=0)
        reward = ListReward(map_strengths(own.norms[own.norms["cue"] == cue], language), language, settings)
        for words in (best, [best[0]] * settings.k, foreign):
            text = language.separator.join(words)
            rows.append({"culture": culture, "cue": cue, "list": text, "reward": round(reward.rate(cue, text), 3)})
    return pd.DataFrame(rows)
