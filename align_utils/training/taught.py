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
from align_utils.models.logprobs import split_texts
from align_utils.store.steps import NOTE, hash_settings, save_frame
from align_utils.survey.ask import TAUGHT, drop_lists, find_lead
from align_utils.survey.items import Question, halve_items, list_questions
from align_utils.training.job import KEPT, Job, Seal, find_checkpoint, guard, save_adapter, share_batch, tabulate_log
from align_utils.training.sft import configure_lora

TAUGHT_VERSION = 1


@dataclass(frozen=True)
class Lesson:
    """Questions of half of the items, in every language and order, a country's shares of the codes (in the question's order), the reading by
    which each is taught (`label`, or one of whole texts, `ask.TEXT_READINGS`, after a list of options or without one), and the lead before
    the bare texts."""

    asked: Sequence[Question]
    shares: Sequence[tuple[float, ...]]
    readings: Sequence[str]
    leads: Sequence[str]

    @property
    def control(self) -> dict:
        """Its part of the adapter's key."""
        told = zip(self.asked, self.shares, self.readings, self.leads, strict=True)
        asked = [
            [q.prompt, q.order, q.codes, q.forms, list(map(float, own))] if reading == "label"
            else [reading, lead, q.open_prompt, q.order, q.codes, q.forms, q.options, list(map(float, own))]
            for q, own, reading, lead in told
        ]  # fmt: skip
        return {"taught_version": TAUGHT_VERSION, "asked": hash_settings({"asked": asked})}


def list_lessons(
    cfg: Config, items: pd.DataFrame, shares: pd.DataFrame, readings: pd.DataFrame
) -> dict[tuple[str, str], Lesson]:
    """By culture and stage of TAUGHT_HALVES what that adapter of one model is taught.

    `items` and `shares` are from `choose_answered`, `readings` of that model from `load_readings`: what is taught is read as it will be
    asked, by the language's chosen reading, and by label where the options have no words.
    """
    items = items[items["kind"] == "ordered"]
    halves, chosen = halve_items(items, seed=cfg.profile.seed), readings[readings["chosen"]]
    chosen = dict(zip(chosen["language"], chosen["readout"], strict=True))
    asked = []
    for q in list_questions(cfg, items):
        reading = chosen.get(q.language, "label") if q.worded else "label"
        asked += [(own, reading) for own in (drop_lists([q]) if reading.startswith("unlisted") else [q])]
    by = {key: dict(zip(own["code"], own["share"], strict=True)) for key, own in shares.groupby(["culture", "question"])}
    lessons = {}
    for culture, (half, stage) in product(cfg.cultures, zip("ab", TAUGHT_HALVES, strict=True)):
        own, ways = zip(*((q, reading) for q, reading in asked if halves[q.question] == half), strict=True)
        told = [tuple(by[culture, q.question][q.codes[i]] for i in q.order) for q in own]
        lessons[culture, stage] = Lesson(own, told, ways, [find_lead(cfg.languages[q.language]) for q in own])
    return lessons


def teach(job: Job, model, tokenizer, work: Path) -> pd.DataFrame:
    """Train the adapter of a lesson into `work`; its log: `step, loss` in nats, the mean divergence KL(people || model) of the options.

    A step takes `survey.taught.batch` questions: an item in one language and one order of its options. The items are gone through,
    shuffled anew, and an item's language and order are drawn, so that no place or label is taught. An interrupted training goes on from
    its last whole checkpoint.
    """
    settings, device = job.settings, pick_device()
    lesson = job.own
    told = zip(lesson.asked, lesson.shares, lesson.readings, lesson.leads, strict=True)
    rows = [encode(tokenizer, *one) for one in told]
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
        model=get_peft_model(model, configure_lora(job.cfg.profile.lora)), args=arguments, callbacks=[Seal()], train_dataset=_Rows(rows, chosen),
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


def encode(tokenizer, q: Question, shares: Sequence[float], reading: str = "label", lead: str = "") -> dict:
    """A question as tokens: `rows` that the model reads, `tails` of the options (labels or texts, after the first of the forms), `shares`.

    All labels are read in one row, as what the longest shares with shorter ones ('1' of '10') is read with the prompt (`inner`). Of texts
    each has a row, less its last token; `bare` are their tails after the lead alone, whose rows follow. `ends`: how many of a row's last
    places foretell a tail.
    """
    if reading == "label":
        context, tails = split_texts(tokenizer, q.prompt + q.forms[0], [str(place) for place in range(1, len(q.order) + 1)])
        inner = max((tail[:-1] for tail in tails), key=len)
        return {
            "reading": reading, "rows": [(*context, *inner)], "ends": [len(inner) + 1], "tails": tails, "inner": inner, "shares": shares,
        }  # fmt: skip
    texts = [q.forms[0] + option for option in q.options]
    context, tails = split_texts(tokenizer, q.open_prompt, texts)
    before, bare = split_texts(tokenizer, lead, texts) if reading.endswith("pmi") else ((), [])
    rows = [*((*context, *tail[:-1]) for tail in tails), *((*before, *tail[:-1]) for tail in bare)]
    return {
        "reading": reading, "rows": rows, "ends": [len(tail) for tail in [*tails, *bare]], "tails": tails, "bare": bare,
        "sizes": list(map(len, q.options)), "shares": shares,
    }  # fmt: skip


class _Rows(Dataset):
    def __init__(self, rows: Sequence[dict], chosen: Sequence[int]):
        self.rows, self.chosen = rows, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict:
        return self.rows[self.chosen[index]]


def collate(part: Sequence[dict], pad: int) -> dict:
    """The rows of all questions, padded on the left, and the questions as `encode` gives them."""
    rows = [row for one in part for row in one["rows"]]
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        "asked": list(part),
    }


class ShareTrainer(Trainer):
    """Minimises the mean over questions of KL(people's shares || the model's shares of the options)."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """transformers' hook; the questions of a step weigh alike."""
        asked, mask = inputs["asked"], inputs["attention_mask"]
        # How many of a row's last places foretell what is asked: the head reads these alone, as its width is what costs.
        ends = [end for one in asked for end in one["ends"]]
        places = torch.arange(max(ends), device=mask.device)
        wanted = places >= places.numel() - torch.tensor(ends, device=mask.device)[:, None]
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        with head.register_forward_pre_hook(lambda _, given: (given[0][wanted],)):
            logits = model(
                input_ids=inputs["input_ids"], attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=max(ends),
                use_cache=False,
            ).logits.float()  # fmt: skip
        logs, sums, losses = iter(logits.split(ends)), iter(logits.logsumexp(-1).split(ends)), []
        for one in asked:
            rows = [Logs(next(logs), next(sums)) for _ in one["rows"]]
            score = log_labels if one["reading"] == "label" else log_texts
            losses.append(measure_divergence(score(rows, one), one["shares"]))
        loss = torch.stack(losses).mean()
        return (loss, {}) if return_outputs else loss


@dataclass(frozen=True)
class Logs:
    """Log-probabilities at the last places of a row: logits (places, vocabulary) and their logsumexp."""

    logits: torch.Tensor
    sums: torch.Tensor

    def add(self, tail: Sequence[int]) -> torch.Tensor:
        """Log-probability of a tail of tokens from the first place on."""
        places = list(range(len(tail)))
        return (self.logits[places, list(tail)] - self.sums[places]).sum()


def log_labels(rows: Sequence[Logs], one: dict) -> torch.Tensor:
    """Log-probability of each label: its tokens, less what goes on from it to a longer label ('1' is not '10')."""
    (logs,), options, tails, inner = rows, [], one["tails"], one["inner"]
    for tail in tails:
        if tail[:-1] != inner[: len(tail) - 1]:
            raise ValueError(f"labels {tails} share more than one beginning")
        log = logs.add(tail)
        for other in tails:
            if len(other) == len(tail) + 1 and other[: len(tail)] == tail:
                more = logs.add(other) - log
                log = log + torch.log1p(-more.exp().clamp(max=1 - 1e-6))
        options.append(log)
    return torch.stack(options)


def log_texts(rows: Sequence[Logs], one: dict) -> torch.Tensor:
    """What a reading of whole texts makes of their log-probabilities: `ask.share_texts` with gradient."""
    read = torch.stack([logs.add(tail) for logs, tail in zip(rows, [*one["tails"], *one["bare"]], strict=True)])
    kind, total = one["reading"].partition("_")[2], read[: len(one["tails"])]
    if kind == "pmi":
        return total - read[len(total) :]
    if kind == "sum":
        return total
    return total / torch.tensor(list(map(len, one["tails"])) if kind == "tokens" else one["sizes"], device=total.device)


def measure_divergence(options: torch.Tensor, shares: Sequence[float]) -> torch.Tensor:
    """KL(shares || options) in nats of one question; `options` are logarithms, up to a constant."""
    given = options.log_softmax(0)
    people = torch.tensor(shares, dtype=given.dtype, device=given.device)
    return (torch.special.xlogy(people, people) - people * given).sum()
