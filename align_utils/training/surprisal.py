"""What a model makes of cues that it is not taught: how unexpected people's lists are to it, token by token, and its own lists."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.config.stages import find_state
from align_utils.lexical.lists import LIST_FORM, LISTS, LISTS_VERSION, generate_lists, pick_examples
from align_utils.models.adapters import Plan, complete_steps, describe_step, read_steps
from align_utils.models.prompts import draw_lists, format_list
from align_utils.norms.split import CultureNorms, map_families
from align_utils.stats import pair_conditions, summarise
from align_utils.store.page import list_records
from align_utils.store.steps import hash_file, save_frame
from align_utils.training.sft import score_completions, write_examples

# Bumped when the scores change for the same settings.
SURPRISAL_VERSION = 1
END = "(end of the list)"


def trace_surprisal(
    cfg: Config, people: dict[str, CultureNorms], stages: Sequence[str], concepts: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Log-probability of every token of people's lists, their strongest responses in order, under the profile's models.

    `people` are from `norms.load_run`. `stages` are `zero_shot`, the untuned model without examples, and trained stages, whose
    adapters must be there (MissingInput); each is a stored step. `concepts` (`norms.pick_concepts`) are scored beside the
    validation cues.

    Returns `model, culture, stage, split` (`valid` or `test`), `cue, place` (of the token), `response` (that it belongs to, the
    separator after it included; END), `token`, `log_probability` (nats). The mean of its negative is the loss.
    """
    parts, length = [], cfg.profile.sft.list_length
    asked = {
        culture: {"valid": sorted(own.cues["valid"]), "test": [] if concepts is None else list(concepts[culture])}
        for culture, own in people.items()
    }

    def make(cell, model, tokenizer, work):
        cues = [cue for part in asked[cell[0]].values() for cue in part]
        lists = draw_lists(people[cell[0]].norms, cues, length=length, order="strength", seed=0)
        scored = _score_lists(model, tokenizer, cfg.language_of(cell[0]), cues, lists, batch=cfg.profile.sft.device_batch)
        save_frame(scored, work / "tokens.parquet")

    for name in cfg.models:
        steps = {
            (culture, stage): describe_step(
                cfg, name, f"surprisal/{name}_{culture}_{stage}", find_state(cfg, culture, stage), version=SURPRISAL_VERSION,
                stage=stage, norms=hash_file(people[culture].path), cues=asked[culture], list_length=length,
                language=cfg.language_of(culture).model_dump(include=LIST_FORM),
            )
            for culture, stage in product(cfg.cultures, stages)
        }  # fmt: skip
        complete_steps(cfg, name, Plan(steps, make, "held-out loss", "stage", "lower sft.device_batch in the profile"))
        parts.append(read_steps(name, steps, "tokens.parquet"))
    tokens = pd.concat(parts, ignore_index=True)
    cells = zip(tokens["culture"], tokens["cue"], strict=True)
    tokens["split"] = ["valid" if cue in asked[culture]["valid"] else "test" for culture, cue in cells]
    return tokens[["model", "culture", "stage", "split", "cue", "place", "response", "token", "log_probability"]]


def _score_lists(
    model, tokenizer, language: Language, cues: Sequence[str], lists: Sequence[Sequence[str]], *, batch: int
) -> pd.DataFrame:  # fmt: skip
    rows = write_examples(language, cues, lists)
    parts, tokenizer.padding_side = [], "right"
    for cue, words, row, scores in zip(cues, lists, rows, score_completions(model, tokenizer, rows, batch=batch), strict=True):
        text, start = row["prompt"] + row["completion"], len(row["prompt"])
        spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"][-len(scores) + 1 :]
        # Where each response but the first begins: behind the separator of the one before.
        begins = start + np.array([len(format_list(language, [*words[:place], ""])) for place in range(1, len(words))])
        responses = [words[np.searchsorted(begins, end - 1, side="right")] for _, end in spans]
        parts.append(pd.DataFrame({
            "cue": cue, "place": range(len(scores)), "response": [*responses, END],
            "token": [*(text[slice(*span)] for span in spans), tokenizer.eos_token], "log_probability": scores.numpy().astype(float),
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def record_losses(cfg: Config, tokens: pd.DataFrame) -> list[dict]:
    """Records of the validation cues' loss (`trace_surprisal`): what every stage has, and paired differences, intervals over families.

    `sft_loss_valid` (nats per token) of every stage; `sft_loss_change`, of SFT from the untuned model; `sft_loss_gap`, of every
    other stage from SFT. `n` counts cues.
    """
    families, by = map_families(cfg), ["model", "culture"]
    frame = tokens[tokens["split"] == "valid"].assign(loss=lambda given: -given["log_probability"])
    frame["family"] = [families[cell] for cell in zip(frame["culture"], frame["cue"], strict=True)]
    cues = frame.groupby(by)["cue"].nunique().rename("n").reset_index()
    means = summarise(frame, [*by, "stage"], "loss", unit="family", **cfg.bootstrap)
    records = list_records(means.drop(columns="n").merge(cues, on=by), "sft_loss_valid", unit="nats per token")
    for new in ("sft", *(stage for stage in frame["stage"].unique() if stage not in ("zero_shot", "sft"))):
        old, metric = ("zero_shot", "sft_loss_change") if new == "sft" else ("sft", "sft_loss_gap")
        pairs = pair_conditions(frame, by, "loss", over="stage", new=new, old=old, paired=["cue", "place"], unit="family")
        gaps = summarise(pairs, by, "difference", unit="family", **cfg.bootstrap).drop(columns="n")
        records += list_records(gaps.merge(cues, on=by), metric, stage=new, unit="nats per token")
    return records


def answer_cues(cfg: Config, people: dict[str, CultureNorms], concepts: pd.DataFrame, stages: Sequence[str]) -> pd.DataFrame:
    """`LISTS` of the profile's first model for a handful of cues, decoded so that no response comes twice; a stored step a stage.

    `people` are from `norms.load_run`, `concepts` from `norms.pick_concepts`, `stages` are who answers: MissingInput where one
    has not been trained.
    """
    name, grid = next(iter(cfg.models)), cfg.profile.lexical.grid
    way = next((one for one in grid if one.distinct), grid[0])
    steps = {
        (culture, stage): describe_step(
            cfg, name, f"shown/{name}_{culture}_{stage}", find_state(cfg, culture, stage), version=LISTS_VERSION, stage=stage,
            norms=hash_file(people[culture].path), cues=list(concepts[culture]), seed=cfg.profile.seed, way=way.model_dump(),
            examples=pick_examples(cfg, people[culture], stage), max_new_tokens=cfg.profile.lexical.max_new_tokens,
            language=cfg.language_of(culture).model_dump(include=LIST_FORM),
        )
        for culture, stage in product(cfg.cultures, stages)
    }  # fmt: skip

    def make(cell, model, tokenizer, work):
        examples, asked = pick_examples(cfg, people[cell[0]], cell[1]), (cfg.language_of(cell[0]), list(concepts[cell[0]]))
        lists = generate_lists(cfg.profile.lexical, model, tokenizer, *asked, [way], examples=examples, label=" ".join(cell))
        save_frame(lists, work / "lists.parquet")

    complete_steps(cfg, name, Plan(steps, make, "lists to show", "stage", "lower lexical.batch in the profile"))
    lists = read_steps(name, steps, "lists.parquet")
    return LISTS.validate(lists[list(LISTS.columns)])
