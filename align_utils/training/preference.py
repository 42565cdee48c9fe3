"""Preference optimisation from the SFT adapter: PPO with a critic, RLOO and GRPO without one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from transformers import TrainerCallback, set_seed
from trl import GRPOConfig, RLOOConfig
from trl.experimental.ppo import PPOConfig, PPOTrainer

from align_utils.config.profiles import Config
from align_utils.lexical.precision import map_strengths
from align_utils.models.adapters import (
    find_adapter,
    keep_adapter,
    refuse_shards,
    scale_gradients,
    share_batch,
    share_step,
    show_progress,
)
from align_utils.models.decode import find_boundary
from align_utils.models.load import attach_adapter, load_base, pick_device
from align_utils.models.prompts import build_list_prompt
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import TrainingError, find_step, hash_file, require, require_space, save_frame
from align_utils.training.grpo_trainers import POLICY, CreditedGRPO, choose_trainer
from align_utils.training.loss import refuse_rewritten
from align_utils.training.reward import Critic, ListReward, NormReward
from align_utils.training.sft import SFT_VERSION, describe_sft
from align_utils.training.tables import tabulate_log
from align_utils.training.validation import ValidationReward, Watch, find_decoding, measure_checkpoints

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
refuse_rewritten(PPOTrainer)
# Bumped when this stage's result changes for the same settings.
PPO_VERSION = 3
# What must stay finite, by its key in trl's log.
PPO_LOGGED = {
    "objective/scores": "reward", "objective/kl": "KL", "objective/entropy": "entropy", "loss/policy_avg": "policy loss",
    "loss/value_avg": "value loss",
}  # fmt: skip


class _EarlyStop(Exception):
    """The stage ends before its last update."""


class _Leave(TrainerCallback):
    """Makes trl's PPO heed `should_training_stop`, which its loop never reads."""

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_training_stop and state.global_step < state.max_steps:
            raise _EarlyStop


def train_ppo(cfg: Config, model_name: str, culture: str, data: CultureNorms, *, seed: int | None = None) -> Path:
    """Go on from the SFT adapter with PPO (trl PPOTrainer); reward from the norms, KL to the SFT model.

    The adapter is loaded twice: as the policy and, frozen, as the reference, so that the first KL is 0. The checkpoint with the
    best mean reward on the validation cues is kept (the SFT model's own is logged as update 0 but never chosen); with
    `ppo.patience` the stage ends once the reward has not risen for that many measurements.

    Returns
    -------
    Path
        Adapter folder with `log.csv`, one row an update: `update, reward, kl, entropy`, `reward_valid` and `rewards.PARTS` of the
        validation lists (`*_valid`), `chosen`, and PARTS of the sampled lists; beside it `times.csv` (`update, seconds`, validation left out). trl's PPO cannot
        resume: an interrupted stage is redone from the SFT adapter.

    Raises
    ------
    MissingInput
        The SFT adapter is not there.
    TrainingError
        Fewer training cues than episodes (trl would loop for ever), a reward or loss that ceases to be finite, or memory or disk
        run out.
    """
    seed = cfg.profile.seed if seed is None else seed
    settings = _describe_ppo(cfg, model_name, culture, data, seed=seed)
    folder = find_adapter(cfg, model_name, culture, "ppo", seed)
    if find_step(folder, settings):
        return folder
    refuse_shards("ppo")
    ppo, language = cfg.profile.ppo, cfg.language_of(culture)
    cues = sorted(data.cues["train"])
    if len(cues) < ppo.episodes:
        raise TrainingError(f"culture '{culture}': {len(cues)} training cues, fewer than ppo.episodes = {ppo.episodes}")
    start = find_adapter(cfg, model_name, culture, "sft", seed)
    what = f"{model_name}, {culture}, ppo"
    remedy = f"lower ppo.device_batch in the profile (now {ppo.device_batch or ppo.episodes})"
    with share_step(folder, settings, remedy=remedy) as work:
        set_seed(seed)
        model, tokenizer = load_base(cfg.models[model_name], seed=seed)
        policy = attach_adapter(model, start, "policy", trainable=True)
        reference = _load_reference(cfg, model_name, policy, start, seed)
        policy.set_adapter("policy")
        asked = {tuple(tokenizer(build_list_prompt(language, cue))["input_ids"]): cue for cue in cues}
        strengths = map_strengths(data.norms[data.norms["cue"].isin(set(cues))], language)
        reward = NormReward(tokenizer, asked, strengths, cfg, language)
        judge = ValidationReward(
            cfg, policy, tokenizer, language, data, work, adapter="policy", every=ppo.eval_every, patience=ppo.patience
        )
        with scale_gradients():
            trainer = PPOTrainer(
                args=_configure_ppo(cfg, work / "trainer", seed), processing_class=tokenizer, model=policy, ref_model=reference,
                reward_model=reward, value_model=Critic(policy),
                train_dataset=Dataset.from_dict({"input_ids": list(map(list, asked))}),
                callbacks=[Watch(what, PPO_LOGGED, f"ppo.learning_rate (now {ppo.learning_rate:g})"), judge],
            )  # fmt: skip
        require_space(what, folder.parent, measure_checkpoints(policy), kind=TrainingError)
        show_progress(trainer)
        trainer.add_callback(_Leave())  # after the bar, which shows the last update too
        try:
            trainer.train()
        except _EarlyStop:
            # trl's loop would have told the callbacks; the bar is closed there.
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
        names = {"objective/scores": "reward", "objective/kl": "kl", "policy/entropy_avg": "entropy"}
        log = tabulate_log(trainer.state.log_history, names).rename(columns={"step": "update"})
        log = log.merge(judge.tabulate(), on="update", how="outer").sort_values("update", ignore_index=True)
        if PartialState().is_main_process:
            parts = reward.lists.tabulate_parts(trainer.args.local_batch_size)
            save_frame(log.merge(parts, on="update", how="left"), work / "log.csv")
            save_frame(judge.tabulate_times(), work / "times.csv")
            shutil.rmtree(work / "trainer", ignore_errors=True)
    return folder


def _configure_ppo(cfg: Config, folder: Path, seed: int):
    ppo = cfg.profile.ppo
    episodes, accumulation = share_batch("ppo.episodes", ppo.episodes, ppo.device_batch or ppo.episodes)
    # max_steps, logging_steps, max_grad_norm and bf16 are silently ignored by trl's PPO: not set here.
    return PPOConfig(
        output_dir=str(folder), total_episodes=ppo.updates * ppo.episodes, per_device_train_batch_size=episodes,
        gradient_accumulation_steps=accumulation, num_mini_batches=ppo.minibatches, num_ppo_epochs=ppo.epochs,
        local_rollout_forward_batch_size=episodes, learning_rate=ppo.learning_rate, kl_coef=ppo.kl,
        response_length=ppo.response_tokens, temperature=ppo.temperature, stop_token="eos", num_sample_generations=0,
        model_adapter_name="policy", ref_adapter_name="reference" if PartialState().num_processes == 1 else None, save_strategy="no", gradient_checkpointing=False,
        report_to="none", seed=seed, bf16=False, use_cpu=pick_device()[0].type == "cpu",
    )  # fmt: skip


def _load_reference(cfg: Config, model_name: str, policy: PeftModel, start: Path, seed: int) -> PeftModel | None:
    """The frozen SFT model: a second adapter on the policy's base; a copy of the model for each of several processes.

    trl 1.12 looks for the adapters on the wrapper that gathers the processes' gradients, where they are not.
    """
    if PartialState().num_processes == 1:
        policy.load_adapter(str(start), adapter_name="reference", is_trainable=False)
        return None
    base, _ = load_base(cfg.models[model_name], seed=seed)
    return attach_adapter(base, start, "reference").eval().requires_grad_(False)


def _describe_ppo(cfg: Config, model_name: str, culture: str, data: CultureNorms, *, seed: int) -> dict:
    start = require(find_adapter(cfg, model_name, culture, "sft", seed) / "adapter_model.safetensors", made_by="02_sft")
    sft = describe_sft(cfg, model_name, culture, data, seed=seed)
    return sft | {
        "version": [SFT_VERSION, PPO_VERSION], "start": hash_file(start), "ppo": cfg.profile.ppo.model_dump(exclude={"device_batch"}, exclude_none=True),
        "decoding": find_decoding(cfg).model_dump(),
        "max_new_tokens": cfg.profile.lexical.max_new_tokens, "remove_spaces": cfg.language_of(culture).remove_spaces,
    }  # fmt: skip


# Bumped when this stage's result changes for the same settings.
CRITIC_FREE_VERSION = 1
# What must stay finite, by the names of trl's log.
CRITIC_FREE_LOGGED = {"reward": "reward", "kl": "KL", "entropy": "entropy", "loss": "loss"}


def train_critic_free(
    cfg: Config, model_name: str, culture: str, data: CultureNorms, *, method: str, seed: int | None = None
) -> Path:
    """Go on from the SFT adapter with trl's GRPOTrainer or RLOOTrainer; reward, validation and choice of checkpoint as in PPO.

    Parameters
    ----------
    data : dict
        `norms`, `cues`, `path` of the culture (`pairs.load_run`); the test cues are not read.
    method : {'grpo', 'rloo'}
    seed : int, optional
        Default the profile's.

    Returns
    -------
    Path
        Adapter folder with `log.csv`, as that of `ppo.train_ppo`: one row an update with `reward, kl` (nats per list; of rloo
        the log ratio, of grpo the estimator that is never negative, both 0 in the first update), `entropy` (nats per token),
        `alike` (share of the groups in which all lists earn the same, so that they teach nothing), `reward_valid`, PARTS of the
        validation lists (`*_valid`) and of the sampled ones, `chosen`; beside it `times.csv` (`update, seconds`). An interrupted stage is redone
        from SFT.

    Raises
    ------
    MissingInput
        The SFT adapter is not there.
    TrainingError
        Fewer training cues than one update asks for, or a value of the log that is not finite.
    """
    seed = cfg.profile.seed if seed is None else seed
    settings = _describe_critic_free(cfg, model_name, culture, data, method=method, seed=seed)
    folder = find_adapter(cfg, model_name, culture, method, seed)
    if find_step(folder, settings):
        return folder
    refuse_shards(method)
    free, language = cfg.profile.critic_free, cfg.language_of(culture)
    cues = sorted(data.cues["train"])
    if len(cues) < free.cues:
        raise TrainingError(f"culture '{culture}': {len(cues)} training cues, fewer than critic_free.cues = {free.cues}")
    start = find_adapter(cfg, model_name, culture, "sft", seed)
    what = f"{model_name}, {culture}, {method}"
    remedy = f"lower critic_free.device_batch in the profile (now {free.device_batch}), or critic_free.cues (now {free.cues}), whose lists are drawn together"
    with share_step(folder, settings, remedy=remedy) as work:
        set_seed(seed)
        model, tokenizer = load_base(cfg.models[model_name], seed=seed)
        policy = attach_adapter(model, start, POLICY, trainable=True)
        strengths = map_strengths(data.norms[data.norms["cue"].isin(set(cues))], language)
        reward = ListReward(strengths, language, cfg.profile.ppo.reward)
        judge = ValidationReward(
            cfg, policy, tokenizer, language, data, work, adapter=POLICY, every=free.eval_every, patience=free.patience
        )
        asked = [{"prompt": build_list_prompt(language, cue), "cue": cue} for cue in cues]
        with keep_adapter(policy), scale_gradients():
            trainer = choose_trainer(method, credit=free.credit)(
                model=policy, reward_funcs=_ask(reward), args=configure_critic_free(cfg, method, work / "trainer", seed=seed),
                processing_class=tokenizer, train_dataset=Dataset.from_list(asked),
                callbacks=[Watch(what, CRITIC_FREE_LOGGED, f"critic_free.learning_rate (now {free.learning_rate:g})"), judge],
            )  # fmt: skip
        if isinstance(trainer, CreditedGRPO):
            trainer.reward, trainer.boundary = reward, find_boundary(tokenizer, language)
        require_space(what, folder.parent, measure_checkpoints(policy), kind=TrainingError)
        show_progress(trainer)
        trainer.train()
        log = tabulate_log(
            trainer.state.log_history,
            {
                "reward": "reward",
                "kl": "kl",
                "entropy": "entropy",
                "frac_reward_zero_std": "alike",
                "completions/mean_length": "tokens",
            },
        )
        # trl's KL is a mean over tokens: times the mean length that of a list. Of grpo nearly so, as trl takes the mean of its device
        # batches' means. With credit by response lists end at their k-th separator: it is the KL of less text than PPO's.
        log = log.assign(kl=log["kl"] * log["tokens"]).rename(columns={"step": "update"})
        log = log.merge(judge.tabulate(), on="update", how="outer").sort_values("update", ignore_index=True)
        if PartialState().is_main_process:
            parts = reward.tabulate_parts(free.cues * free.samples // PartialState().num_processes)
            save_frame(log.merge(parts, on="update", how="left"), work / "log.csv")
            save_frame(judge.tabulate_times(), work / "times.csv")
            shutil.rmtree(work / "trainer", ignore_errors=True)
    return folder


def configure_critic_free(cfg: Config, method: str, folder: Path, **changes) -> GRPOConfig | RLOOConfig:
    """trl's settings of a method; `changes` replace single ones."""
    free = cfg.profile.critic_free
    size, accumulation = share_batch("critic_free.cues x samples", free.cues * free.samples, free.device_batch)
    # trl disables no dropout by itself: with it the policy would differ from its own copy, and the first KL from 0.
    settings = dict(
        output_dir=str(folder), max_steps=free.updates, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
        num_generations=free.samples, max_completion_length=free.response_tokens, temperature=free.temperature, beta=free.kl,
        learning_rate=free.learning_rate, lr_scheduler_type="linear", logging_steps=1, save_strategy="no", report_to="none",
        disable_dropout=True, gradient_checkpointing=False, bf16=False, dataloader_num_workers=0,
        use_cpu=pick_device()[0].type == "cpu",
    )  # fmt: skip
    if method == "rloo":
        return RLOOConfig(**settings | changes)
    return GRPOConfig(**settings | changes)


def _ask(reward: ListReward):
    def score(completions: list[str], cue: list[str], **_) -> list[float]:
        return [reward.score(*pair) for pair in zip(cue, completions, strict=True)]

    return score


def _describe_critic_free(cfg: Config, model_name: str, culture: str, data: CultureNorms, *, method: str, seed: int) -> dict:
    start = require(find_adapter(cfg, model_name, culture, "sft", seed) / "adapter_model.safetensors", made_by="02_sft")
    ppo = cfg.profile.ppo
    return describe_sft(cfg, model_name, culture, data, seed=seed) | {
        "version": [SFT_VERSION, CRITIC_FREE_VERSION], "start": hash_file(start), "method": method,
        "critic_free": cfg.profile.critic_free.model_dump(exclude={"methods", "device_batch"}, exclude_defaults=True), "reward": ppo.reward.model_dump(),
        "decoding": find_decoding(cfg).model_dump(), "max_new_tokens": cfg.profile.lexical.max_new_tokens,
        "remove_spaces": cfg.language_of(culture).remove_spaces,
    }  # fmt: skip
