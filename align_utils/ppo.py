"""PPO from the SFT adapter: reward from the norms, KL to the SFT model, the checkpoint chosen on validation cues."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from peft import PeftModel
from transformers import TrainerCallback, set_seed

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
# Here and not where it is used: unsloth, loaded with the first model, puts trainers of its own in the place of trl's, and
# the second culture would be taught by another program than the first.
from trl.experimental.ppo import PPOConfig, PPOTrainer

from align_utils import lexical, prompts
from align_utils.adapters import find_adapter, refuse_shards, scale_gradients, share_batch, share_step, show_progress
from align_utils.artifacts import find_step, hash_file, require, save_frame
from align_utils.checkpoints import Watch, measure_checkpoints
from align_utils.config import Config
from align_utils.curves import tabulate_log
from align_utils.failures import TrainingError, require_space
from align_utils.loss import refuse_rewritten
from align_utils.models import attach_adapter, load_base, pick_device
from align_utils.rewards import Critic, NormReward
from align_utils.sft import VERSION as SFT_VERSION
from align_utils.sft import describe_sft
from align_utils.validation import ValidationReward, find_decoding

refuse_rewritten(PPOTrainer)

# Bumped when this stage's result changes for the same settings.
VERSION = 3
# What must stay finite, by its key in trl's log.
LOGGED = {
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


def train_ppo(cfg: Config, model_name: str, culture: str, data: dict, *, seed: int | None = None) -> Path:
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
    settings = _describe(cfg, model_name, culture, data, seed=seed)
    folder = find_adapter(cfg, model_name, culture, "ppo", seed)
    if find_step(folder, settings):
        return folder
    refuse_shards("ppo")
    ppo, language = cfg.profile.ppo, cfg.language_of(culture)
    cues = sorted(data["cues"]["train"])
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
        asked = {tuple(tokenizer(prompts.build_list_prompt(language, cue))["input_ids"]): cue for cue in cues}
        strengths = lexical.map_strengths(data["norms"][data["norms"]["cue"].isin(set(cues))], language)
        reward = NormReward(tokenizer, asked, strengths, cfg, language)
        judge = ValidationReward(
            cfg, policy, tokenizer, language, data, work, adapter="policy", every=ppo.eval_every, patience=ppo.patience
        )
        with scale_gradients():
            trainer = PPOTrainer(
                args=_configure_ppo(cfg, work / "trainer", seed), processing_class=tokenizer, model=policy, ref_model=reference,
                reward_model=reward, value_model=Critic(policy),
                train_dataset=Dataset.from_dict({"input_ids": list(map(list, asked))}),
                callbacks=[Watch(what, LOGGED, f"ppo.learning_rate (now {ppo.learning_rate:g})"), judge],
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


def _describe(cfg: Config, model_name: str, culture: str, data: dict, *, seed: int) -> dict:
    start = require(find_adapter(cfg, model_name, culture, "sft", seed) / "adapter_model.safetensors", made_by="02_sft")
    sft = describe_sft(cfg, model_name, culture, data, seed=seed)
    return sft | {
        "version": [SFT_VERSION, VERSION], "start": hash_file(start), "ppo": cfg.profile.ppo.model_dump(exclude={"device_batch"}, exclude_none=True),
        "decoding": find_decoding(cfg).model_dump(),
        "max_new_tokens": cfg.profile.lexical.max_new_tokens, "remove_spaces": cfg.language_of(culture).remove_spaces,
    }  # fmt: skip
