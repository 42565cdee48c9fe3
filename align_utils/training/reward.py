"""The reward of a list, as a plain function and as the modules that trl asks for."""

from __future__ import annotations

import math
from functools import wraps
from types import SimpleNamespace

import pandas as pd
import torch
from peft import PeftModel
from torch import nn

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Reward
from align_utils.lexical.precision import map_strengths, score_reward, split_reward
from align_utils.models.prompts import draw_lists, parse_list, split_parts
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import TrainingError
from align_utils.training.loss import has_plain_head

# What trl hands to a scoring pass.
INPUTS = ("input_ids", "attention_mask", "position_ids")


class SharedBackbone(nn.Module):
    """The policy's backbone as trl's PPO asks the critic for it; the policy's own pass over the same tensors takes what it read.

    trl asks the critic first and the policy right after it, with the same tensors. It reads the logits of a scoring pass by
    slices of positions alone, so the output layer waits for the slice: the prompt's logits are never computed.
    The features reach the critic without gradient, so that the value loss never moves the policy's adapter.

    Parameters
    ----------
    policy : PeftModel
        Its `forward` is changed for scoring passes; generation is left as it is. Where not `loss.has_plain_head`, the passes are the
        model's own and their logits float32: from 16 bits the ratios and the KL of trl would be rounded too.
    """

    def __init__(self, policy: PeftModel):
        super().__init__()
        core = policy.get_base_model()
        # In training unsloth drops the mask of a backbone that is called by itself, and lists padded on the left would read padding.
        core.base_model._unsloth_keep_padding_mask = True
        # Functions and not modules: nothing of the policy is registered, moved or saved twice.
        self._read = lambda **given: core.base_model(use_cache=False, **given).last_hidden_state
        self._head = lambda hidden: core.get_output_embeddings()(hidden)
        self._plain, self._shared = core.forward, has_plain_head(core)
        self._last: tuple | None = None
        core.forward = self._score if self._shared else _widen_scores(core.forward)

    def forward(self, input_ids, attention_mask, position_ids, **_):
        """Last hidden states in the form trl reads them."""
        with torch.set_grad_enabled(self._shared and torch.is_grad_enabled()):
            hidden = self._read(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
            self._last = (input_ids, hidden) if torch.is_grad_enabled() else None
        return SimpleNamespace(hidden_states=(hidden.detach().float(),))

    def _score(self, *places, **given):
        # Only trl's scoring passes ask for hidden states; generation does not.
        if not given.get("output_hidden_states"):
            return self._plain(*places, **given)
        known, self._last = self._last, None
        shared = known is not None and known[0] is given["input_ids"]
        hidden = known[1] if shared else self._read(**{name: given[name] for name in INPUTS})
        return SimpleNamespace(logits=_Asked(self._head, hidden))


def _widen_scores(plain):
    @wraps(plain)  # generation reads the signature
    def forward(*places, **given):
        output = plain(*places, **given)
        if given.get("output_hidden_states"):
            output.logits = output.logits.float()
        return output

    return forward


class _Asked:
    """Logits that are computed for the positions of a slice when it is taken."""

    def __init__(self, head, hidden: torch.Tensor):
        self._head, self._hidden = head, hidden

    def __getitem__(self, places) -> torch.Tensor:
        return self._head(self._hidden[places])


# What a list's reward is made of, and the signs of a reward that is gamed: short lists, words that fit everything.
PARTS = ("precision", "strength", "length", "duplicates", "copies", "listed", "frequent")


class RewardError(TrainingError):
    """A prompt came back from trl in a form that the reward does not know, or the norms give no finite reward."""


class ListReward:
    """The reward of generated lists, the same for every method; what the rewards were made of is kept for the log (`PARTS`).

    Parameters
    ----------
    strengths : dict
        Cue to its responses' strengths (`lexical.map_strengths`).
    """

    def __init__(self, strengths: dict[str, dict[str, float]], language: Language, settings: Reward):
        self.strengths, self.language, self.settings = strengths, language, settings
        self.common = find_common(strengths, k=settings.k)
        self.scored: list[dict] = []

    def score(self, cue: str, text: str) -> float:
        """Reward of one generated text, in [0, 1]: parsed, then `lexical.score_reward`."""
        words = parse_list(self.language, text, cue=cue)
        self.scored.append(describe_list(cue, text, words, self.strengths[cue], self.common, self.language, self.settings))
        return self._rate_words(cue, words)

    def rate(self, cue: str, text: str) -> float:
        """As `score`, and nothing is noted for the log: for parts of a text."""
        return self._rate_words(cue, parse_list(self.language, text, cue=cue))

    def _rate_words(self, cue: str, words: list[str]) -> float:
        reward = score_reward(words, self.strengths[cue], self.language, self.settings)
        if not math.isfinite(reward):
            raise RewardError(
                f"the reward of {words} for the cue '{cue}' is {reward}: its strengths in the norms are not numbers"
            )
        return reward

    def tabulate_parts(self, lists: int) -> pd.DataFrame:
        """`update` (from 1) and the mean of each of PARTS over the `lists` that this process scored in it."""
        frame = pd.DataFrame(self.scored, columns=PARTS)
        return frame.groupby(frame.index // lists + 1).mean().rename_axis("update").reset_index()


class NormReward(nn.Module):
    """`ListReward` as the torch module that trl's PPO asks for; it has no weights.

    trl calls the backbone with ids and mask, then `score` on its last hidden state, and never says where the prompt ends: the
    prompt is recognised by its ids, the rest is decoded and scored, and the reward is written at every position (trl reads one
    of them).
    """

    base_model_prefix = "backbone"

    def __init__(self, tokenizer, asked: dict[tuple[int, ...], str], strengths: dict, cfg: Config, language: Language):
        super().__init__()
        self.tokenizer, self.asked = tokenizer, asked
        self.lists = ListReward(strengths, language, cfg.profile.ppo.reward)
        self.lengths = sorted({len(ids) for ids in asked}, reverse=True)
        self.backbone = _Readout(self._reward_rows)
        self.score = nn.Identity()

    def _reward_rows(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, _) -> torch.Tensor:
        rewards = [self._reward_one(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        return torch.tensor(rewards, device=input_ids.device).view(-1, 1, 1).expand(-1, input_ids.shape[1], 1)

    def _reward_one(self, ids: list[int]) -> float:
        length = next((n for n in self.lengths if tuple(ids[:n]) in self.asked), None)
        if length is None:
            raise RewardError("PPO: a prompt was not recognised; prompts must be padded on the left and not truncated")
        text = self.tokenizer.decode(ids[length:], skip_special_tokens=True)
        return self.lists.score(self.asked[tuple(ids[:length])], text)


def find_common(strengths: dict[str, dict[str, float]], *, k: int) -> set[str]:
    """The k responses with the largest sum of strengths over all cues: the frequency baseline's answer to everything."""
    totals: dict[str, float] = {}
    for table in strengths.values():
        for word, strength in table.items():
            totals[word] = totals.get(word, 0.0) + strength
    return set(sorted(totals, key=lambda word: (-totals[word], word))[:k])


def describe_list(
    cue: str, text: str, words: list[str], human: dict[str, float], common: set[str], language: Language, reward: Reward
) -> dict[str, float]:
    """PARTS of one generated list.

    Returns
    -------
    dict
        `precision`, `strength` (`lexical.split_reward`), `length` (distinct responses), `duplicates` and `copies` (shares of the
        parts that repeat a response, or the cue), `listed` (1 where the text is a list of two parts or more, else 0: the format),
        `frequent` (share of the responses that are among `common`); shares of an empty list are NaN.
    """
    precision, strength = split_reward(words, human, language, k=reward.k)
    parts, empty = split_parts(text), float("nan")
    copies = sum(language.normalise(part) == language.normalise(cue) for part in parts)
    return {
        "precision": precision, "strength": strength, "length": len(words),
        "duplicates": (len(parts) - copies - len(words)) / len(parts) if parts else empty,
        "copies": copies / len(parts) if parts else empty, "listed": float(len(parts) > 1),
        "frequent": sum(language.normalise(word) in common for word in words) / len(words) if words else empty,
    }  # fmt: skip


class Critic(nn.Module):
    """Value model on the policy's own features (`passes.SharedBackbone`): one float32 layer, no second copy of the model."""

    base_model_prefix = "backbone"

    def __init__(self, policy: PeftModel):
        super().__init__()
        self.backbone = SharedBackbone(policy)
        self.score = nn.Linear(policy.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.score.bias)
        nn.init.normal_(self.score.weight, std=1 / (self.score.in_features + 1))


def show_rewards(cfg: Config, stage: dict[str, CultureNorms]) -> pd.DataFrame:
    """The reward worked on three lists for one training cue of each culture: the best, the same word twice, another cue's."""
    rows, reward = [], cfg.profile.ppo.reward
    for culture, data in stage.items():
        language, (cue, other) = cfg.language_of(culture), data.cues["train"][:2]
        best, foreign = draw_lists(data.norms, [cue, other], length=reward.k, order="strength", seed=0)
        strengths = map_strengths(data.norms[data.norms["cue"] == cue], language)[cue]
        for words in (best, [best[0]] * reward.k, foreign):
            parsed = parse_list(language, language.separator.join(words), cue=cue)
            score = score_reward(parsed, strengths, language, reward)
            rows.append({"culture": culture, "cue": cue, "list": language.separator.join(words), "reward": round(score, 3)})
    return pd.DataFrame(rows)


class _Readout(nn.Module):
    """A function in the place of a backbone. It holds no parameters, so nothing is registered, moved or saved twice."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    @torch.no_grad()
    def forward(self, input_ids, attention_mask, position_ids, **_):
        return _Hidden(self.function(input_ids, attention_mask, position_ids))


class _Hidden:
    def __init__(self, hidden: torch.Tensor):
        self.hidden_states = (hidden,)
