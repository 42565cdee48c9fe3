"""Teach a model the norms: supervised fine-tuning, then PPO from its adapter; each stage one function and one stored step."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError, safe_open
from tqdm import tqdm
from transformers import ProgressCallback, TrainerCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
# Here and not where it is used: unsloth, loaded with the first model, puts trainers of its own in the place of trl's, and
# the second culture would be taught by another program than the first.
from trl.experimental.ppo import PPOConfig, PPOTrainer

from align_utils import lexical, prompts
from align_utils.artifacts import find_step, hash_file, hash_settings, make_step, require, save_frame
from align_utils.config import Config, Decoding, Language
from align_utils.curves import tabulate_log
from align_utils.generation import find_adapter, generate_lists
from align_utils.loss import pick_trainer
from align_utils.models import attach_adapter, hash_base, load_base, pick_device
from align_utils.rewards import Critic, NormReward

# Bumped when a stage's result changes for the same settings.
SFT_VERSION = 2
PPO_VERSION = 2


class TrainingError(RuntimeError):
    """Training cannot start or has gone wrong; the message names the setting or file."""


def build_examples(
    norms: pd.DataFrame, cues: Sequence[str], language: Language, *, rows: int, length: int, order: str, seed: int
) -> list[dict[str, str]]:
    """Prompt and completion of `rows` training examples: passes over the shuffled cues, lists drawn afresh in each.

    Returns
    -------
    list of dict
        `prompt`, `completion`; the separating space belongs to the completion.
    """
    examples: list[dict[str, str]] = []
    cues, turn = sorted(cues), 0
    while len(examples) < rows:
        shuffled = pd.Series(cues).sample(frac=1, random_state=seed + turn).tolist()
        lists = prompts.draw_lists(norms, shuffled, length=length, order=order, seed=seed + turn)
        examples += [
            {"prompt": prompts.build_list_prompt(language, cue), "completion": prompts.format_list(language, words)}
            for cue, words in zip(shuffled, lists, strict=True)
        ]
        turn += 1
    return examples[:rows]


def train_sft(cfg: Config, model_name: str, culture: str, data: dict) -> Path:
    """Fine-tune a LoRA adapter on one culture's training cues (trl SFTTrainer, loss on the completion only).

    Parameters
    ----------
    data : dict
        `norms` (DataFrame), `cues` (dict from `norms.split_cues`), `path` (file of the norms).

    Returns
    -------
    Path
        Adapter folder with `log.csv` (`step, loss, eval_loss`; nats per token). A finished step of the same settings is
        returned as it is; an interrupted one goes on from its last whole checkpoint.

    Raises
    ------
    TrainingError
        An example is longer than `sft.max_tokens`, or the loss is not finite.
    """
    settings, folder = _describe_sft(cfg, model_name, culture, data), find_adapter(cfg, model_name, culture, "sft")
    if find_step(folder, settings):
        return folder
    sft, language, seed = cfg.profile.sft, cfg.language_of(culture), cfg.profile.seed
    with make_step(folder, settings) as work:
        set_seed(seed)
        model, tokenizer = load_base(cfg.models[model_name], seed=seed)
        tokenizer.padding_side = "right"
        rows = sft.steps * sft.batch
        train = build_examples(
            data["norms"], data["cues"]["train"], language, rows=rows, length=sft.list_length, order=sft.order, seed=seed
        )
        valid = build_examples(
            data["norms"], data["cues"]["valid"], language, rows=len(data["cues"]["valid"]), length=sft.list_length,
            order="strength", seed=seed,
        )  # fmt: skip
        _check_lengths(tokenizer, [*train, *valid], sft.max_tokens)
        trainer = pick_trainer(model)(
            model=model, args=configure_sft(cfg, work / "trainer"), processing_class=tokenizer,
            train_dataset=Dataset.from_list(train), eval_dataset=Dataset.from_list(valid), peft_config=configure_lora(cfg),
        )  # fmt: skip
        _widen_adapter(trainer)
        _show_progress(trainer)
        before = {"step": 0, "eval_loss": trainer.evaluate()["eval_loss"]}
        trainer.train(resume_from_checkpoint=_find_checkpoint(work / "trainer"))
        log = tabulate_log([before, *trainer.state.log_history], {"loss": "loss", "eval_loss": "eval_loss"})
        losses = [
            entry[name] for entry in [before, *trainer.state.log_history] for name in ("loss", "eval_loss") if name in entry
        ]
        if not all(map(math.isfinite, losses)):
            raise TrainingError(f"{model_name}, {culture}: the loss is not finite; lower sft.learning_rate in the profile")
        trainer.model.save_pretrained(work, safe_serialization=True)
        save_frame(log, work / "log.csv")
        _clear(work)
    return folder


def train_ppo(cfg: Config, model_name: str, culture: str, data: dict) -> Path:
    """Go on from the SFT adapter with PPO (trl PPOTrainer); reward from the norms, KL to the SFT model.

    The adapter is loaded twice: as the policy and, frozen, as the reference, so that the first KL is 0. The checkpoint with the
    best mean reward on the validation cues is kept (the SFT model's own is logged as update 0 but never chosen).

    Returns
    -------
    Path
        Adapter folder with `log.csv`: `update, reward, kl, entropy, reward_valid`, one row an update. trl's PPO cannot resume:
        an interrupted stage is redone from the SFT adapter.

    Raises
    ------
    MissingInput
        The SFT adapter is not there.
    TrainingError
        Fewer training cues than episodes (trl would loop for ever), or a reward that is not finite.
    """
    settings, folder = _describe_ppo(cfg, model_name, culture, data), find_adapter(cfg, model_name, culture, "ppo")
    if find_step(folder, settings):
        return folder
    ppo, language, seed = cfg.profile.ppo, cfg.language_of(culture), cfg.profile.seed
    cues = sorted(data["cues"]["train"])
    if len(cues) < ppo.episodes:
        raise TrainingError(f"culture '{culture}': {len(cues)} training cues, fewer than ppo.episodes = {ppo.episodes}")
    start = find_adapter(cfg, model_name, culture, "sft")
    with make_step(folder, settings) as work:
        _clear(work)
        set_seed(seed)
        model, tokenizer = load_base(cfg.models[model_name], seed=seed)
        policy = attach_adapter(model, start, "policy", trainable=True)
        policy.load_adapter(str(start), adapter_name="reference", is_trainable=False)
        policy.set_adapter("policy")
        asked = {tuple(tokenizer(prompts.build_list_prompt(language, cue))["input_ids"]): cue for cue in cues}
        strengths = lexical.map_strengths(data["norms"][data["norms"]["cue"].isin(set(cues))], language)
        reward = NormReward(tokenizer, asked, strengths, cfg, language)
        judge = ValidationReward(cfg, policy, tokenizer, language, data, work)
        judge.measure(0)
        trainer = PPOTrainer(
            args=_configure_ppo(cfg, work / "trainer"), processing_class=tokenizer, model=policy, ref_model=None,
            reward_model=reward, value_model=Critic(policy), train_dataset=Dataset.from_dict({"input_ids": list(map(list, asked))}),
            callbacks=[judge],
        )  # fmt: skip
        _show_progress(trainer)
        trainer.train()
        names = {"objective/scores": "reward", "objective/kl": "kl", "policy/entropy_avg": "entropy"}
        log = tabulate_log(trainer.state.log_history, names).rename(columns={"step": "update"})
        log = judge.tabulate().merge(log, on="update", how="outer").sort_values("update", ignore_index=True)
        if log["reward"].iloc[1:].isna().any():
            raise TrainingError(f"{model_name}, {culture}: a PPO reward is not finite; lower ppo.learning_rate in the profile")
        save_frame(log[["update", "reward", "kl", "entropy", "reward_valid", "chosen"]], work / "log.csv")
        _clear(work)
    return folder


class ValidationReward(TrainerCallback):
    """Every `ppo.eval_every` updates: mean reward of the lists for the validation cues; the best adapter so far is kept."""

    def __init__(self, cfg: Config, policy: PeftModel, tokenizer, language: Language, data: dict, work: Path):
        self.cfg, self.policy, self.tokenizer, self.language = cfg, policy, tokenizer, language
        self.cues, self.work = data["cues"]["valid"], work
        self.strengths = lexical.map_strengths(data["norms"][data["norms"]["cue"].isin(set(self.cues))], language)
        self.decoding = Decoding(name="valid", repetition_penalty=cfg.profile.ppo.eval_penalty)
        self.history: list[tuple[int, float]] = []
        self.best: int | None = None

    def measure(self, update: int) -> float:
        """Mean reward on the validation cues, in [0, 1]; stored under the update's number."""
        was_training = self.policy.training
        self.policy.eval()
        lists = generate_lists(
            self.cfg, self.policy, self.tokenizer, self.language, self.cues, [self.decoding], label="validation"
        )
        self.policy.train(was_training)
        rewards = [
            lexical.score_reward(words, self.strengths[cue], self.language, self.cfg.profile.ppo.reward)
            for cue, words in zip(lists["cue"], lists["responses"], strict=True)
        ]
        self.history.append((update, sum(rewards) / len(rewards)))
        return self.history[-1][1]

    def on_step_end(self, args, state, control, **kwargs):
        """trl calls this after each update."""
        update = state.global_step
        if update % self.cfg.profile.ppo.eval_every and update != state.max_steps:
            return
        tuned = [reward for number, reward in self.history if number > 0]
        # The random stream is left as it was: validation must not change the training that follows.
        with torch.random.fork_rng():
            reward = self.measure(update)
        if not tuned or reward > max(tuned):
            self.best = update
            self.policy.save_pretrained(self.work, selected_adapters=["policy"], safe_serialization=True)
            for path in (self.work / "policy").iterdir():
                path.replace(self.work / path.name)
            (self.work / "policy").rmdir()

    def tabulate(self) -> pd.DataFrame:
        """`update, reward_valid, chosen`."""
        frame = pd.DataFrame(self.history, columns=["update", "reward_valid"])
        return frame.assign(chosen=frame["update"] == self.best)


def configure_lora(cfg: Config) -> LoraConfig:
    """LoRA on all linear layers with the profile's rank, scale and dropout."""
    lora = cfg.profile.lora
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def configure_sft(cfg: Config, folder: Path, **changes) -> SFTConfig:
    """trl's settings for the SFT stage; `changes` replace single ones (the benchmark leaves out checkpoints)."""
    sft = cfg.profile.sft
    _, dtype, _ = pick_device()
    settings = dict(
        output_dir=str(folder), max_steps=sft.steps, per_device_train_batch_size=sft.device_batch,
        gradient_accumulation_steps=sft.batch // sft.device_batch, per_device_eval_batch_size=sft.device_batch,
        learning_rate=sft.learning_rate, lr_scheduler_type="linear", warmup_steps=int(sft.warmup_share * sft.steps),
        max_length=sft.max_tokens, logging_steps=1, eval_strategy="steps", eval_steps=sft.eval_every, save_strategy="steps",
        save_steps=sft.eval_every, save_total_limit=1, bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16,
        gradient_checkpointing=torch.cuda.is_available(), report_to="none", seed=cfg.profile.seed, dataloader_num_workers=0, logging_nan_inf_filter=False,
    )  # fmt: skip
    return SFTConfig(**settings | changes)


def _configure_ppo(cfg: Config, folder: Path):
    ppo = cfg.profile.ppo
    # max_steps, logging_steps, max_grad_norm and bf16 are silently ignored by trl's PPO: not set here.
    return PPOConfig(
        output_dir=str(folder), total_episodes=ppo.updates * ppo.episodes, per_device_train_batch_size=ppo.episodes,
        gradient_accumulation_steps=1, num_mini_batches=ppo.minibatches, num_ppo_epochs=ppo.epochs,
        local_rollout_forward_batch_size=ppo.episodes, learning_rate=ppo.learning_rate, kl_coef=ppo.kl,
        response_length=ppo.response_tokens, temperature=ppo.temperature, stop_token="eos", num_sample_generations=0,
        model_adapter_name="policy", ref_adapter_name="reference", save_strategy="no", gradient_checkpointing=False,
        report_to="none", seed=cfg.profile.seed, bf16=False,
    )  # fmt: skip


def _widen_adapter(trainer) -> None:
    # trl makes the adapter of a 4-bit model bfloat16, and the gradient scaler of float16 training (a T4) refuses its gradients.
    if trainer.args.fp16:
        for weights in trainer.model.parameters():
            if weights.requires_grad:
                weights.data = weights.data.float()


def _show_progress(trainer) -> None:
    # In a notebook transformers draws its bars as HTML, which a headless run cannot show: a plain bar serves both.
    from transformers.utils.notebook import NotebookProgressCallback

    trainer.remove_callback(NotebookProgressCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar)


class _Bar(TrainerCallback):
    def on_train_begin(self, args, state, control, **_):
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_step_end(self, args, state, control, **_):
        self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **_):
        self.bar.close()


def _check_lengths(tokenizer, examples: list[dict[str, str]], limit: int) -> None:
    # trl truncates silently; a cut completion would teach the model to stop in the middle of a word.
    longest = max(examples, key=lambda example: len(tokenizer(example["prompt"] + example["completion"])["input_ids"]))
    size = len(tokenizer(longest["prompt"] + longest["completion"])["input_ids"]) + 1
    if size > limit:
        raise TrainingError(f"the example {longest['prompt']!r} has {size} tokens, above sft.max_tokens = {limit}: raise it")


def _find_checkpoint(folder: Path) -> str | None:
    if not folder.is_dir():
        return None
    for path in folder.glob("checkpoint-*"):
        # trainer_state.json is written last: without it, or with a cut weights file, the save was interrupted.
        if not (path / "trainer_state.json").is_file() or not _is_whole(path / "adapter_model.safetensors"):
            shutil.rmtree(path)
    return get_last_checkpoint(str(folder))


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _clear(work: Path) -> None:
    shutil.rmtree(work / "trainer", ignore_errors=True)


def _describe_sft(cfg: Config, model_name: str, culture: str, data: dict) -> dict:
    return {
        "version": SFT_VERSION, "base": hash_base(cfg.models[model_name], seed=cfg.profile.seed), "culture": culture,
        "norms": hash_file(data["path"]), "cues": hash_settings(data["cues"]), "seed": cfg.profile.seed,
        "sft": cfg.profile.sft.model_dump(), "lora": cfg.profile.lora.model_dump(),
        "prompt": [getattr(cfg.language_of(culture), name) for name in ("list_prompt", "list_lead", "separator")],
    }  # fmt: skip


def _describe_ppo(cfg: Config, model_name: str, culture: str, data: dict) -> dict:
    start = require(find_adapter(cfg, model_name, culture, "sft") / "adapter_model.safetensors", made_by="02_sft")
    sft = _describe_sft(cfg, model_name, culture, data)
    return sft | {
        "version": [SFT_VERSION, PPO_VERSION], "start": hash_file(start), "ppo": cfg.profile.ppo.model_dump(),
        "max_new_tokens": cfg.profile.lexical.max_new_tokens, "remove_spaces": cfg.language_of(culture).remove_spaces,
    }  # fmt: skip
