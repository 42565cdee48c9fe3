"""Preference optimisation from the SFT adapter: PPO with a critic, RLOO and GRPO without one."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pandas as pd
import torch
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import DataCollatorWithPadding, StoppingCriteria, StoppingCriteriaList, TrainerCallback
from trl import GRPOConfig, RLOOConfig
from trl.experimental.ppo import PPOConfig, PPOTrainer

from align_utils.config.settings import CriticFree, Ppo
from align_utils.config.stages import count_lists
from align_utils.lexical.precision import map_strengths
from align_utils.models.adapters import attach_adapter
from align_utils.models.decode import find_boundary, find_stop_tokens
from align_utils.models.load import load_base, pick_device
from align_utils.models.prompts import build_list_prompt
from align_utils.store.steps import TrainingError, save_frame
from align_utils.training.grpo_trainers import CreditedGRPO, choose_trainer
from align_utils.training.job import POLICY, Job, guard, share_batch, tabulate_log
from align_utils.training.reward import ListReward, ValidationReward, measure_gains
from align_utils.training.sft import has_plain_head, refuse_rewritten

refuse_rewritten(PPOTrainer)
# What trl hands to a scoring pass.
INPUTS = ("input_ids", "attention_mask", "position_ids")
# trl's names of what a log holds.
LOGGED = {
    "ppo": {"objective/scores": "reward", "objective/kl": "kl", "policy/entropy_avg": "entropy"},
    "critic_free": {
        "reward": "reward", "kl": "kl", "entropy": "entropy", "frac_reward_zero_std": "alike", "completions/mean_length": "tokens",
    },
}  # fmt: skip


def prefer(job: Job, model, tokenizer, work: Path) -> pd.DataFrame:
    """Go on from the SFT adapter with a reward from the norms and the KL to the SFT model; the best adapter goes into `work`.

    The checkpoint with the best mean reward on the validation cues is kept (the SFT model's own is logged as update 0 but never
    chosen). The log has one row an update: `reward, kl` (nats per list; of rloo the log ratio, of grpo the estimator that is never
    negative), `entropy`, `alike` (share of the groups in which all lists earn the same; PPO has none), `reward_valid`, `reward.PARTS` of
    the validation lists (`*_valid`) and of the sampled ones, `chosen`; `times.csv` beside it `update, seconds`, and `drawn.parquet`
    `reward.PARTS`, `cue, update` of every validation list of update 0 and of the chosen one. trl's PPO cannot resume: an interrupted
    stage is redone from the SFT adapter.
    """
    policy = attach_adapter(model, job.start, POLICY, trainable=True)
    taught = job.own.norms[job.own.norms["cue"].isin(set(job.cues))]
    reward = ListReward(map_strengths(taught, job.language), job.language, job.cfg.profile.ppo.reward)
    judge = ValidationReward(job, policy, tokenizer, work)
    make = _make_ppo if job.section == "ppo" else _make_critic_free
    with scale_gradients():
        trainer = make(job, policy, tokenizer, reward, work / "trainer")
    trainer.add_callback(judge)
    guard(trainer, job)
    (run_ppo if job.section == "ppo" else type(trainer).train)(trainer)
    log = tabulate_log(trainer.state.log_history, LOGGED[job.section]).rename(columns={"step": "update"})
    if job.section == "critic_free":
        # trl's KL is a mean over tokens: times the mean length that of a list. Of grpo nearly so, as trl takes the mean of its device
        # batches' means. With credit by response lists end at their k-th separator: it is the KL of less text than PPO's.
        log = log.assign(kl=log["kl"] * log["tokens"])
    measured = pd.DataFrame(judge.history).assign(chosen=lambda frame: frame["update"] == judge.best)
    log = log.merge(measured, on="update", how="outer").sort_values("update", ignore_index=True)
    if PartialState().is_main_process:
        save_frame(pd.DataFrame(judge.times, columns=["update", "seconds"]), work / "times.csv")
        save_frame(pd.concat([judge.drawn[0], judge.drawn[judge.best]], ignore_index=True), work / "drawn.parquet")
        shutil.rmtree(work / "trainer", ignore_errors=True)
    lists = count_lists(job.cfg.profile, job.stage) // job.settings.updates // PartialState().num_processes
    return log.merge(reward.tabulate_parts(lists), on="update", how="left")


def scale_gradients():
    """While a trainer of a preference stage is made: where the card's type is float16 (a T4), accelerate is told to scale losses.

    Unscaled, small gradients of a 16-bit model underflow to 0 on their way to the adapter. trl's PPO takes no setting for it, and
    the other two are told in the same way, so that they differ in nothing. accelerate reads the variable when a trainer is made; its
    launcher always sets it, to `no` where the launch file names nothing else.
    """
    narrow = pick_device()[1] == torch.float16 and os.environ.get("ACCELERATE_MIXED_PRECISION") in (None, "", "no")
    return mock.patch.dict(os.environ, {"ACCELERATE_MIXED_PRECISION": "fp16"} if narrow else {})


@contextmanager
def keep_adapter(model: PeftModel):
    """An adapter that is handed to a trainer inside the block stays as it was loaded, float32.

    trl's GRPO and RLOO round that of a quantised model to bfloat16 on any card, after its copy for the KL was made. They scale
    no gradients, so nothing refuses it; but the policy would no longer be the SFT model, the optimiser's small steps would be
    lost in 8 bits, and a card without bfloat16 emulates it. trl's PPO rounds only an adapter that it has made itself.
    """
    loaded = {name: weights.data for name, weights in model.named_parameters() if weights.requires_grad}
    yield
    for name, weights in model.named_parameters():
        if name in loaded:
            weights.data = loaded[name].to(weights.device)


def _make_ppo(job: Job, policy: PeftModel, tokenizer, reward: ListReward, folder: Path) -> PPOTrainer:
    # The adapter is loaded twice: as the policy and, frozen, as the reference, so that the first KL is 0.
    reference = None
    if PartialState().num_processes == 1:
        attach_adapter(policy, job.start, "reference")
    else:
        # trl 1.12 looks for the adapters on the wrapper that gathers the processes' gradients, where they are not: a copy of the model.
        base, _ = load_base(job.cfg.models[job.model], seed=job.seed)
        reference = attach_adapter(base, job.start, "reference").eval().requires_grad_(False)
    policy.set_adapter(POLICY)
    asked = {tuple(tokenizer(build_list_prompt(job.language, cue))["input_ids"]): cue for cue in job.cues}
    rated = NormReward(tokenizer, asked, reward, find_boundary(tokenizer, job.language))
    end_lists(policy, rated)
    return PPOTrainer(
        args=configure_ppo(job.cfg.profile.ppo, folder, job.seed), processing_class=tokenizer, model=policy, ref_model=reference,
        reward_model=rated, value_model=Critic(policy, rated), data_collator=_Repeat(tokenizer, samples=job.settings.samples),
        train_dataset=Dataset.from_dict({"input_ids": list(map(list, asked))}),
    )  # fmt: skip


class _Repeat(DataCollatorWithPadding):
    """A batch of prompts of which the first are taken, each `samples` times: as many lists of one cue stand in an update."""

    def __init__(self, tokenizer, *, samples: int):
        super().__init__(tokenizer)
        self.samples = samples

    def __call__(self, features):
        return super().__call__([one for one in features[: len(features) // self.samples] for _ in range(self.samples)])


class _Over(StoppingCriteria):
    """Rows that hold k separators or a line's end behind the prompt of `start` tokens."""

    def __init__(self, start: int, boundary: int, k: int, stops: torch.Tensor):
        self.start, self.boundary, self.k, self.stops = start, boundary, k, stops

    def count(self, new: torch.Tensor) -> torch.Tensor:
        """Whether a list is over, token by token."""
        return ((new == self.boundary).cumsum(1) >= self.k) | torch.isin(new, self.stops).cumsum(1).bool()

    def __call__(self, input_ids, scores, **_):
        return self.count(input_ids[:, self.start :])[:, -1]


def end_lists(policy: PeftModel, rated: NormReward) -> None:
    """Make a policy's lists end at the separator behind their k-th response, or at a line's end: what follows is pads.

    The reward reads no further, so that nothing else is drawn, scored or moved. `policy.generate` is changed in place.
    """
    plain, tokenizer, k = policy.generate, rated.tokenizer, rated.reward.settings.k

    @wraps(plain)
    def generate(**given):
        start = given["input_ids"].shape[1]
        stops = torch.tensor(find_stop_tokens(tokenizer), device=given["input_ids"].device)
        over = _Over(start, rated.boundary, k, stops)
        output = plain(stopping_criteria=StoppingCriteriaList([over]), **given)
        new = output.sequences[:, start:]
        # The token that ends a list is its last: only what comes after it is taken off.
        after = over.count(new).roll(1, dims=1)
        after[:, 0] = False
        output.sequences[:, start:] = new.masked_fill(after, tokenizer.pad_token_id)
        return output

    policy.generate = generate


def _make_critic_free(job: Job, policy: PeftModel, tokenizer, reward: ListReward, folder: Path):
    asked = [{"prompt": build_list_prompt(job.language, cue), "cue": cue} for cue in job.cues]
    with keep_adapter(policy):
        trainer = choose_trainer(job.stage, credit=job.settings.credit)(
            model=policy, reward_funcs=reward.score_all, args=configure_critic_free(job.cfg.profile.critic_free, job.stage, folder, job.seed),
            processing_class=tokenizer, train_dataset=Dataset.from_list(asked),
        )  # fmt: skip
    if isinstance(trainer, CreditedGRPO):
        trainer.reward, trainer.boundary = reward, find_boundary(tokenizer, job.language)
    return trainer


def configure_ppo(ppo: Ppo, folder: Path, seed: int) -> PPOConfig:
    """trl's settings of PPO."""
    episodes, accumulation = share_batch("ppo.episodes", ppo.episodes, ppo.device_batch or ppo.episodes)
    # max_steps, logging_steps, max_grad_norm and bf16 are silently ignored by trl's PPO: not set here.
    return PPOConfig(
        output_dir=str(folder), total_episodes=ppo.updates * ppo.episodes, per_device_train_batch_size=episodes,
        gradient_accumulation_steps=accumulation, num_mini_batches=ppo.minibatches, num_ppo_epochs=ppo.epochs,
        local_rollout_forward_batch_size=episodes, learning_rate=ppo.learning_rate, kl_coef=ppo.kl,
        response_length=ppo.response_tokens, temperature=ppo.temperature, stop_token="eos", num_sample_generations=0,
        lam=1.0,  # a list is short: the rewards to come are added up as they are, without the critic's guesses
        model_adapter_name=POLICY, ref_adapter_name="reference" if PartialState().num_processes == 1 else None,
        save_strategy="no", gradient_checkpointing=False, report_to="none", seed=seed, bf16=False,
        use_cpu=pick_device()[0].type == "cpu",
    )  # fmt: skip


def configure_critic_free(free: CriticFree, method: str, folder: Path, seed: int) -> GRPOConfig | RLOOConfig:
    """trl's settings of GRPO or RLOO."""
    size, accumulation = share_batch("critic_free.cues x samples", free.cues * free.samples, free.device_batch)
    # trl disables no dropout by itself: with it the policy would differ from its own copy, and the first KL from 0.
    settings = dict(
        output_dir=str(folder), max_steps=free.updates, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
        num_generations=free.samples, max_completion_length=free.response_tokens, temperature=free.temperature, beta=free.kl,
        learning_rate=free.learning_rate, lr_scheduler_type="linear", logging_steps=1, save_strategy="no", report_to="none",
        disable_dropout=True, gradient_checkpointing=False, bf16=False, dataloader_num_workers=0, seed=seed,
        use_cpu=pick_device()[0].type == "cpu",
    )  # fmt: skip
    return RLOOConfig(**settings) if method == "rloo" else GRPOConfig(**settings)


class SharedBackbone(nn.Module):
    """The policy's backbone as trl's PPO asks the critic for it, with what a list has earned so far as one more feature; the policy's own
    pass over the same tensors takes what was read.

    trl asks the critic first and the policy right after it, with the same tensors. It reads the logits of a scoring pass by
    slices of positions alone, so the output layer waits for the slice: the prompt's logits are never computed.
    The features reach the critic without gradient, so that the value loss never moves the policy's adapter.
    The policy's `forward` is changed for scoring passes; generation is left as it is. Where not `sft.has_plain_head`, the passes are
    the model's own and their logits float32: from 16 bits the ratios and the KL of trl would be rounded too.
    """

    def __init__(self, policy: PeftModel, rated: NormReward):
        super().__init__()
        core = policy.get_base_model()
        self._rated = rated
        # In training unsloth drops the mask of a backbone that is called by itself, and lists padded on the left would read padding.
        core.base_model._unsloth_keep_padding_mask = True
        # Functions and not modules: nothing of the policy is registered, moved or saved twice.
        self._read = lambda **given: core.base_model(use_cache=False, **given).last_hidden_state
        self._head = lambda hidden: core.get_output_embeddings()(hidden)
        self._plain, self._shared = core.forward, has_plain_head(core)
        self._last: tuple | None = None
        core.forward = self._score if self._shared else _widen_scored(core.forward)

    def forward(self, input_ids, attention_mask, position_ids, **_):
        """Last hidden states in the form trl reads them."""
        with torch.set_grad_enabled(self._shared and torch.is_grad_enabled()):
            hidden = self._read(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
            self._last = (input_ids, hidden) if torch.is_grad_enabled() else None
        earned = self._rated.earn(input_ids, attention_mask).to(hidden.device)
        return SimpleNamespace(hidden_states=(torch.cat([hidden.detach().float(), earned[..., None]], dim=-1),))

    def _score(self, *places, **given):
        # Only trl's scoring passes ask for hidden states; generation does not.
        if not given.get("output_hidden_states"):
            return self._plain(*places, **given)
        known, self._last = self._last, None
        shared = known is not None and known[0] is given["input_ids"]
        hidden = known[1] if shared else self._read(**{name: given[name] for name in INPUTS})
        return SimpleNamespace(logits=_Asked(self._head, hidden))


def _widen_scored(plain):
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

    def __init__(self, tokenizer, asked: dict[tuple[int, ...], str], reward: ListReward, boundary: int):
        super().__init__()
        self.tokenizer, self.asked, self.reward, self.boundary = tokenizer, asked, reward, boundary
        self.lengths = sorted({len(ids) for ids in asked}, reverse=True)
        self.score = nn.Identity()

    @torch.no_grad()
    def backbone(self, input_ids, attention_mask, **_):
        """The rewards in the place of hidden states."""
        rewards = [self._reward_one(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        rewards = torch.tensor(rewards, device=input_ids.device).view(-1, 1, 1).expand(-1, input_ids.shape[1], 1)
        return SimpleNamespace(hidden_states=(rewards,))

    def _split(self, ids: list[int]) -> tuple[str, int]:
        length = next((n for n in self.lengths if tuple(ids[:n]) in self.asked), None)
        if length is None:
            raise TrainingError("PPO: a prompt was not recognised; prompts must be padded on the left and not truncated")
        return self.asked[tuple(ids[:length])], length

    def _reward_one(self, ids: list[int]) -> float:
        cue, length = self._split(ids)
        return self.reward.score(cue, self.tokenizer.decode(ids[length:], skip_special_tokens=True))

    def earn(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The reward of the whole responses up to each token, shape of the ids: 0 in the prompt, the list's at its end."""
        earned = torch.zeros(input_ids.shape)
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask.bool(), strict=True)):
            kept, places = ids[mask].tolist(), mask.nonzero()[:, 0]
            cue, length = self._split(kept)
            if kept[length:]:
                gains, ends = measure_gains(self.reward, self.tokenizer, self.boundary, cue, kept[length:])
                # A token's own state already knows the response that it ends.
                known = torch.zeros(len(kept))
                for gain, end in zip(gains, ends, strict=True):
                    known[length + end - 1 :] += gain
                earned[row, places] = known
                earned[row, places[-1] + 1 :] = known[-1]
        return earned


class Critic(nn.Module):
    """Value model on the policy's own features (`SharedBackbone`): one float32 layer, no second copy of the model.

    It starts from what the list has earned so far and expects nothing more (weights 0, and 1 for what is earned). With lambda 1 an
    advantage is the reward to come less what is expected of it: a response is not credited with those before it.
    """

    base_model_prefix = "backbone"

    def __init__(self, policy: PeftModel, rated: NormReward):
        super().__init__()
        self.backbone = SharedBackbone(policy, rated)
        self.score = nn.Linear(policy.config.get_text_config().hidden_size + 1, 1)
        nn.init.zeros_(self.score.bias)
        nn.init.zeros_(self.score.weight)
        with torch.no_grad():
            self.score.weight[:, -1] = 1.0


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
        with redirect_stdout(io.StringIO()):  # trl announces itself
            trainer.train()
    except _EarlyStop:
        # trl's loop would have told the callbacks; the bar is closed there.
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
