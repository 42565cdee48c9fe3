"""trl's PPO with a critic and a policy that read the backbone once, the reward as trl asks for it, and an end before the last update."""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace

import torch
from accelerate import PartialState
from peft import PeftModel
from torch import nn
from transformers import TrainerCallback
from trl.experimental.ppo import PPOTrainer

from align_utils.config.settings import ModelSource
from align_utils.models.load import attach_adapter, load_base
from align_utils.training.loss import has_plain_head, refuse_rewritten
from align_utils.training.reward import ListReward, RewardError

refuse_rewritten(PPOTrainer)
# What trl hands to a scoring pass.
INPUTS = ("input_ids", "attention_mask", "position_ids")


class SharedBackbone(nn.Module):
    """The policy's backbone as trl's PPO asks the critic for it; the policy's own pass over the same tensors takes what it read.

    trl asks the critic first and the policy right after it, with the same tensors. It reads the logits of a scoring pass by
    slices of positions alone, so the output layer waits for the slice: the prompt's logits are never computed.
    The features reach the critic without gradient, so that the value loss never moves the policy's adapter.
    The policy's `forward` is changed for scoring passes; generation is left as it is. Where not `loss.has_plain_head`, the passes are
    the model's own and their logits float32: from 16 bits the ratios and the KL of trl would be rounded too.
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


class NormReward(nn.Module):
    """`ListReward` as the torch module that trl's PPO asks for; it has no weights.

    trl calls the backbone with ids and mask, then `score` on its last hidden state, and never says where the prompt ends: the
    prompt is recognised by its ids, the rest is decoded and scored, and the reward is written at every position (trl reads one
    of them).
    """

    base_model_prefix = "backbone"

    def __init__(self, tokenizer, asked: dict[tuple[int, ...], str], reward: ListReward):
        super().__init__()
        self.tokenizer, self.asked, self.reward = tokenizer, asked, reward
        self.lengths = sorted({len(ids) for ids in asked}, reverse=True)
        self.backbone = _Readout(self._reward_rows)
        self.score = nn.Identity()

    @torch.no_grad()
    def _reward_rows(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        rewards = [self._reward_one(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        return torch.tensor(rewards, device=input_ids.device).view(-1, 1, 1).expand(-1, input_ids.shape[1], 1)

    def _reward_one(self, ids: list[int]) -> float:
        length = next((n for n in self.lengths if tuple(ids[:n]) in self.asked), None)
        if length is None:
            raise RewardError("PPO: a prompt was not recognised; prompts must be padded on the left and not truncated")
        text = self.tokenizer.decode(ids[length:], skip_special_tokens=True)
        return self.reward.score(self.asked[tuple(ids[:length])], text)


class Critic(nn.Module):
    """Value model on the policy's own features (`SharedBackbone`): one float32 layer, no second copy of the model."""

    base_model_prefix = "backbone"

    def __init__(self, policy: PeftModel):
        super().__init__()
        self.backbone = SharedBackbone(policy)
        self.score = nn.Linear(policy.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.score.bias)
        nn.init.normal_(self.score.weight, std=1 / (self.score.in_features + 1))


class _Readout(nn.Module):
    """A function in the place of a backbone. It holds no parameters, so nothing is registered, moved or saved twice."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, input_ids, attention_mask, **_):
        return SimpleNamespace(hidden_states=(self.function(input_ids, attention_mask),))


class _EarlyStop(Exception):
    """The stage ends before its last update."""


class _Leave(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if control.should_training_stop and state.global_step < state.max_steps:
            raise _EarlyStop


def run_ppo(trainer: PPOTrainer) -> None:
    """Train, and heed `should_training_stop`, which trl's loop never reads."""
    trainer.add_callback(_Leave())  # after all others, which see the last update too
    try:
        trainer.train()
    except _EarlyStop:
        # trl's loop would have told the callbacks; the bar is closed there.
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)


def load_reference(source: ModelSource, policy: PeftModel, start, seed: int) -> PeftModel | None:
    """The frozen SFT model: a second adapter on the policy's base; a copy of the model for each of several processes.

    trl 1.12 looks for the adapters on the wrapper that gathers the processes' gradients, where they are not.
    """
    if PartialState().num_processes == 1:
        attach_adapter(policy, start, "reference")
        return None
    base, _ = load_base(source, seed=seed)
    return attach_adapter(base, start, "reference").eval().requires_grad_(False)
