"""GRPO and RLOO from the SFT adapter: PPO's reward without its critic, a list judged against the others for its cue."""

from __future__ import annotations

import shutil
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, RLOOConfig

from align_utils import lexical, prompts
from align_utils.adapters import (
    find_adapter,
    keep_adapter,
    refuse_shards,
    scale_gradients,
    share_batch,
    share_step,
    show_progress,
)
from align_utils.artifacts import find_step, hash_file, require, save_frame
from align_utils.checkpoints import Watch, measure_checkpoints
from align_utils.config import Config
from align_utils.curves import tabulate_log
from align_utils.failures import TrainingError, require_space
from align_utils.generation import find_boundary
from align_utils.groups import POLICY, CreditedGRPO, choose_trainer
from align_utils.models import attach_adapter, load_base, pick_device
from align_utils.rewards import ListReward
from align_utils.sft import VERSION as SFT_VERSION
from align_utils.sft import describe_sft
from align_utils.validation import ValidationReward, find_decoding

# Bumped when this stage's result changes for the same settings.
VERSION = 1
# What must stay finite, by the names of trl's log.
LOGGED = {"reward": "reward", "kl": "KL", "entropy": "entropy", "loss": "loss"}


def train_critic_free(cfg: Config, model_name: str, culture: str, data: dict, *, method: str, seed: int | None = None) -> Path:
    """Go on from the SFT adapter with trl's GRPOTrainer or RLOOTrainer; reward, validation and choice of checkpoint as in PPO.

    Parameters
    ----------
    data : dict
        `norms`, `cues`, `path` of the culture (`pairs.load_stage`); the test cues are not read.
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
    settings = _describe(cfg, model_name, culture, data, method=method, seed=seed)
    folder = find_adapter(cfg, model_name, culture, method, seed)
    if find_step(folder, settings):
        return folder
    refuse_shards(method)
    free, language = cfg.profile.critic_free, cfg.language_of(culture)
    cues = sorted(data["cues"]["train"])
    if len(cues) < free.cues:
        raise TrainingError(f"culture '{culture}': {len(cues)} training cues, fewer than critic_free.cues = {free.cues}")
    start = find_adapter(cfg, model_name, culture, "sft", seed)
    what = f"{model_name}, {culture}, {method}"
    remedy = f"lower critic_free.device_batch in the profile (now {free.device_batch}), or critic_free.cues (now {free.cues}), whose lists are drawn together"
    with share_step(folder, settings, remedy=remedy) as work:
        set_seed(seed)
        model, tokenizer = load_base(cfg.models[model_name], seed=seed)
        policy = attach_adapter(model, start, POLICY, trainable=True)
        strengths = lexical.map_strengths(data["norms"][data["norms"]["cue"].isin(set(cues))], language)
        reward = ListReward(strengths, language, cfg.profile.ppo.reward)
        judge = ValidationReward(
            cfg, policy, tokenizer, language, data, work, adapter=POLICY, every=free.eval_every, patience=free.patience
        )
        asked = [{"prompt": prompts.build_list_prompt(language, cue), "cue": cue} for cue in cues]
        with keep_adapter(policy), scale_gradients():
            trainer = choose_trainer(method, credit=free.credit)(
                model=policy, reward_funcs=_ask(reward), args=configure_critic_free(cfg, method, work / "trainer", seed=seed),
                processing_class=tokenizer, train_dataset=Dataset.from_list(asked),
                callbacks=[Watch(what, LOGGED, f"critic_free.learning_rate (now {free.learning_rate:g})"), judge],
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


def _describe(cfg: Config, model_name: str, culture: str, data: dict, *, method: str, seed: int) -> dict:
    start = require(find_adapter(cfg, model_name, culture, "sft", seed) / "adapter_model.safetensors", made_by="02_sft")
    ppo = cfg.profile.ppo
    return describe_sft(cfg, model_name, culture, data, seed=seed) | {
        "version": [SFT_VERSION, VERSION], "start": hash_file(start), "method": method,
        "critic_free": cfg.profile.critic_free.model_dump(exclude={"methods", "device_batch"}, exclude_defaults=True), "reward": ppo.reward.model_dump(),
        "decoding": find_decoding(cfg).model_dump(), "max_new_tokens": cfg.profile.lexical.max_new_tokens,
        "remove_spaces": cfg.language_of(culture).remove_spaces,
    }  # fmt: skip
