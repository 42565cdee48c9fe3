"""Preference optimisation from the SFT adapter: PPO with a critic, RLOO and GRPO without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from trl import GRPOConfig, RLOOConfig
from trl.experimental.ppo import PPOConfig, PPOTrainer

from align_utils.config.profiles import Config
from align_utils.config.stages import count_lists
from align_utils.lexical.precision import map_strengths
from align_utils.models.adapters import keep_adapter, scale_gradients, share_batch
from align_utils.models.decode import find_boundary
from align_utils.models.load import attach_adapter, pick_device
from align_utils.models.prompts import build_list_prompt
from align_utils.store.steps import save_frame
from align_utils.training.grpo_trainers import CreditedGRPO, choose_trainer
from align_utils.training.job import Job
from align_utils.training.ppo_trainer import Critic, NormReward, load_reference, run_ppo
from align_utils.training.reward import ListReward
from align_utils.training.tables import tabulate_log
from align_utils.training.validation import POLICY, ValidationReward, guard

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
    the validation lists (`*_valid`) and of the sampled ones, `chosen`; `times.csv` beside it `update, seconds`. trl's PPO cannot
    resume: an interrupted stage is redone from the SFT adapter.
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
    log = log.merge(judge.tabulate(), on="update", how="outer").sort_values("update", ignore_index=True)
    if PartialState().is_main_process:
        save_frame(judge.tabulate_times(), work / "times.csv")
        shutil.rmtree(work / "trainer", ignore_errors=True)
    lists = count_lists(job.cfg.profile, job.stage) // job.settings.updates // PartialState().num_processes
    return log.merge(reward.tabulate_parts(lists), on="update", how="left")


def _make_ppo(job: Job, policy: PeftModel, tokenizer, reward: ListReward, folder: Path) -> PPOTrainer:
    # The adapter is loaded twice: as the policy and, frozen, as the reference, so that the first KL is 0.
    reference = load_reference(job.cfg.models[job.model], policy, job.start, job.seed)
    policy.set_adapter(POLICY)
    asked = {tuple(tokenizer(build_list_prompt(job.language, cue))["input_ids"]): cue for cue in job.cues}
    return PPOTrainer(
        args=configure_ppo(job.cfg, folder, job.seed), processing_class=tokenizer, model=policy, ref_model=reference,
        reward_model=NormReward(tokenizer, asked, reward), value_model=Critic(policy),
        train_dataset=Dataset.from_dict({"input_ids": list(map(list, asked))}),
    )  # fmt: skip


def _make_critic_free(job: Job, policy: PeftModel, tokenizer, reward: ListReward, folder: Path):
    asked = [{"prompt": build_list_prompt(job.language, cue), "cue": cue} for cue in job.cues]
    with keep_adapter(policy):
        trainer = choose_trainer(job.stage, credit=job.settings.credit)(
            model=policy, reward_funcs=wrap_reward(reward), args=configure_critic_free(job.cfg, job.stage, folder, job.seed),
            processing_class=tokenizer, train_dataset=Dataset.from_list(asked),
        )  # fmt: skip
    if isinstance(trainer, CreditedGRPO):
        trainer.reward, trainer.boundary = reward, find_boundary(tokenizer, job.language)
    return trainer


def wrap_reward(reward: ListReward):
    """The reward as a function of trl's columns."""

    def score(completions: list[str], cue: list[str], **_) -> list[float]:
        return [reward.score(*pair) for pair in zip(cue, completions, strict=True)]

    return score


def configure_ppo(cfg: Config, folder: Path, seed: int) -> PPOConfig:
    """trl's settings of PPO."""
    ppo = cfg.profile.ppo
    episodes, accumulation = share_batch("ppo.episodes", ppo.episodes, ppo.device_batch or ppo.episodes)
    # max_steps, logging_steps, max_grad_norm and bf16 are silently ignored by trl's PPO: not set here.
    return PPOConfig(
        output_dir=str(folder), total_episodes=ppo.updates * ppo.episodes, per_device_train_batch_size=episodes,
        gradient_accumulation_steps=accumulation, num_mini_batches=ppo.minibatches, num_ppo_epochs=ppo.epochs,
        local_rollout_forward_batch_size=episodes, learning_rate=ppo.learning_rate, kl_coef=ppo.kl,
        response_length=ppo.response_tokens, temperature=ppo.temperature, stop_token="eos", num_sample_generations=0,
        model_adapter_name=POLICY, ref_adapter_name="reference" if PartialState().num_processes == 1 else None,
        save_strategy="no", gradient_checkpointing=False, report_to="none", seed=seed, bf16=False,
        use_cpu=pick_device()[0].type == "cpu",
    )  # fmt: skip


def configure_critic_free(cfg: Config, method: str, folder: Path, seed: int) -> GRPOConfig | RLOOConfig:
    """trl's settings of GRPO or RLOO."""
    free = cfg.profile.critic_free
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
