"""The survey's ceiling control: an adapter learns a country's shares of half of the items, to be asked the other half.

If even that moves no answer to items that were not taught, the survey cannot see a shift of values with this model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from peft import get_peft_model
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from align_utils.config.profiles import Config
from align_utils.config.stages import TAUGHT_HALVES
from align_utils.models.load import pick_device
from align_utils.store.steps import NOTE, hash_settings, save_frame
from align_utils.survey.ask import TAUGHT, split_texts
from align_utils.survey.items import Question, halve_items, list_questions
from align_utils.training.job import KEPT, Job, Seal, find_checkpoint, guard, save_adapter, share_batch, tabulate_log
from align_utils.training.sft import configure_lora

TAUGHT_VERSION = 1


@dataclass(frozen=True)
class Lesson:
    """Questions of half of the items, in every language and order, and a country's shares of the codes (in the question's order)."""

    asked: Sequence[Question]
    shares: Sequence[tuple[float, ...]]

    @property
    def control(self) -> dict:
        """Its part of the adapter's key."""
        asked = [
            [q.prompt, q.order, q.codes, q.forms, list(map(float, own))] for q, own in zip(self.asked, self.shares, strict=True)
        ]
        return {"taught_version": TAUGHT_VERSION, "asked": hash_settings({"asked": asked})}


def list_lessons(cfg: Config, items: pd.DataFrame, shares: pd.DataFrame) -> dict[tuple[str, str], Lesson]:
    """By culture and stage of TAUGHT_HALVES what that adapter is taught; `items` and `shares` are from `choose_answered`."""
    items = items[items["kind"] == "ordered"]
    halves, asked = halve_items(items, seed=cfg.profile.seed), list_questions(cfg, items)
    by = {key: dict(zip(own["code"], own["share"], strict=True)) for key, own in shares.groupby(["culture", "question"])}
    lessons = {}
    for culture, (half, stage) in product(cfg.cultures, zip("ab", TAUGHT_HALVES, strict=True)):
        own = [q for q in asked if halves[q.question] == half]
        lessons[culture, stage] = Lesson(own, [tuple(by[culture, q.question][q.codes[i]] for i in q.order) for q in own])
    return lessons


def teach(job: Job, model, tokenizer, work: Path) -> pd.DataFrame:
    """Train the adapter of a lesson into `work`; its log: `step, loss` in nats, the mean divergence KL(people || model) of the options.

    A step takes `survey.taught.batch` questions: an item in one language and one order of its options. The items are gone through,
    shuffled anew, and an item's language and order are drawn, so that no place or label is taught. An interrupted training goes on from
    its last whole checkpoint.
    """
    settings, device = job.settings, pick_device()
    rows = [encode(tokenizer, q, own) for q, own in zip(job.own.asked, job.own.shares, strict=True)]
    chosen = draw_questions(job.own.asked, settings.steps * settings.batch, seed=job.seed)
    checkpoints = work.with_name(f"{work.name}-checkpoints")
    size, accumulation = share_batch("survey.taught.batch", settings.batch, settings.batch)
    arguments = TrainingArguments(
        output_dir=str(checkpoints), max_steps=settings.steps, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
        learning_rate=settings.learning_rate, lr_scheduler_type="linear", logging_steps=1, save_steps=max(1, settings.steps // 4),
        save_total_limit=KEPT, bf16=device[1] == torch.bfloat16, fp16=device[1] == torch.float16, report_to="none", seed=job.seed,
        use_cpu=device[0].type == "cpu", remove_unused_columns=False, logging_nan_inf_filter=False,
    )  # fmt: skip
    trainer = ShareTrainer(
        model=get_peft_model(model, configure_lora(job.cfg)), args=arguments, callbacks=[Seal()], train_dataset=_Rows(rows, chosen),
        data_collator=lambda part: collate(part, tokenizer.pad_token_id),
    )  # fmt: skip
    guard(trainer, job)
    reached = find_checkpoint(checkpoints)
    if reached and PartialState().is_main_process:
        (work / NOTE).write_text(f"went on from {Path(reached).name}", encoding="utf-8")
    trainer.train(resume_from_checkpoint=reached)
    if PartialState().is_main_process:
        save_adapter(trainer.accelerator.unwrap_model(trainer.model), work)
        save_frame(pd.DataFrame({"question": sorted({q.question for q in job.own.asked})}), work / TAUGHT)
    return tabulate_log(trainer.state.log_history, {"loss": "loss"})


def draw_questions(asked: Sequence[Question], size: int, *, seed: int) -> list[int]:
    """Places in `asked` of so many questions: passes over the items, shuffled anew, each in a language and order drawn at random."""
    rng, of = np.random.default_rng(seed), {}
    for place, q in enumerate(asked):
        of.setdefault(q.question, []).append(place)
    passes = -(-size // len(of))
    return [int(rng.choice(list(of.values())[item])) for _ in range(passes) for item in rng.permutation(len(of))][:size]


def encode(tokenizer, q: Question, shares: Sequence[float]) -> dict:
    """A question as tokens: `ids` of what all labels go on from, their `tails` after the first of the forms, and `shares` of the places."""
    context, tails = split_texts(tokenizer, q.prompt + q.forms[0], [str(place) for place in range(1, len(q.order) + 1)])
    return {"ids": context, "tails": tails, "shares": shares}


class _Rows(Dataset):
    def __init__(self, rows: Sequence[dict], chosen: Sequence[int]):
        self.rows, self.chosen = rows, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict:
        return self.rows[self.chosen[index]]


def collate(part: Sequence[dict], pad: int) -> dict:
    """Rows padded on the left, one a question: what its longest label shares with shorter ones ('1' of '10') is read with the prompt.

    `tails` and `shares` stay lists; `inner` holds those shared tokens by question.
    """
    inner = [max((tail[:-1] for tail in row["tails"]), key=len) for row in part]
    rows = [[*row["ids"], *more] for row, more in zip(part, inner, strict=True)]
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[pad] * (width - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        "tails": [row["tails"] for row in part], "inner": inner, "shares": [row["shares"] for row in part],
    }  # fmt: skip


class ShareTrainer(Trainer):
    """Minimises the mean over questions of KL(people's shares || the model's shares of the options)."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """transformers' hook; the questions of a step weigh alike."""
        keep = 1 + max(map(len, inputs["inner"]))
        mask = inputs["attention_mask"]
        logits = model(
            input_ids=inputs["input_ids"], attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=keep,
            use_cache=False,
        ).logits.float()  # fmt: skip
        told = zip(logits.log_softmax(-1), inputs["tails"], inputs["inner"], inputs["shares"], strict=True)
        loss = torch.stack([score_shares(logs[keep - 1 - len(inner) :], *rest) for logs, *rest in told for inner in [rest[1]]])
        return (loss.mean(), {}) if return_outputs else loss.mean()


def score_shares(logs: torch.Tensor, tails: Sequence[tuple], inner: tuple, shares: Sequence[float]) -> torch.Tensor:
    """KL(shares || options) in nats of one question.

    `logs` (1 + len(inner), vocabulary) are log-probabilities after the prompt and after each token of `inner`; a label is its tokens,
    less what goes on from it to a longer label ('1' is not '10').
    """
    options = []
    for tail in tails:
        if tail[:-1] != inner[: len(tail) - 1]:
            raise ValueError(f"labels {tails} share more than one beginning")
        log = sum(logs[place, token] for place, token in enumerate(tail))
        longer = [other[len(tail)] for other in tails if len(other) == len(tail) + 1 and other[: len(tail)] == tail]
        for token in longer:
            log = log + torch.log1p(-logs[len(tail), token].exp().clamp(max=1 - 1e-6))
        options.append(log)
    given = torch.stack(options).log_softmax(0)
    people = torch.tensor(shares, dtype=given.dtype, device=given.device)
    return (torch.special.xlogy(people, people) - people * given).sum()
