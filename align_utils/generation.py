"""Let a model associate: batched lists for many cues, and the decoding chosen on validation cues; models with their adapters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from align_utils import lexical, prompts
from align_utils.adapters import find_adapter
from align_utils.artifacts import require
from align_utils.config import Config, Decoding, Language
from align_utils.decoder import continue_rows, forbid_beginnings, penalise
from align_utils.models import attach_adapter, check_adapters, load_base
from align_utils.stages import list_trained, name_notebook

# Bumped when lists, or the choice of their decoding, change for the same settings.
VERSION = 3


def find_boundary(tokenizer, language: Language) -> int:
    """The token after which a response begins: the last of the separator, as it is tokenised between two words."""
    return tokenizer(f"a{language.separator}b")["input_ids"][-2]


def find_beginnings(tokenizer, cue: str) -> list[int]:
    """First tokens of a cue, after a space and without one."""
    return [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (f" {cue}", cue)]


def find_stop_tokens(tokenizer) -> list[int]:
    """Token ids that end a list: eos and every token that starts with a line break."""
    breaks = [index for token, index in tokenizer.get_vocab().items() if token.startswith(("\n", "Ċ", "<0x0A>"))]
    return sorted({tokenizer.eos_token_id, *breaks})


@torch.inference_mode()
def generate_texts(
    model,
    tokenizer,
    asked: Sequence[str],
    penalties: Sequence[float],
    *,
    max_new_tokens: int,
    batch: int,
    boundary: int = 0,
    beginnings: Sequence[Sequence[int]] | None = None,
    label: str = "",
) -> list[str]:
    """Greedy continuations of many prompts, in length-sorted batches; what a batch's prompts have in common is read once.

    Parameters
    ----------
    asked : sequence of str
        Prompts.
    penalties : sequence of float
        Repetition penalty of each prompt (over prompt and continuation, as in transformers; 1: none).
    max_new_tokens, batch : int
    boundary, beginnings : int, sequence of sequence of int
        For `decoder.forbid_beginnings`: the first tokens of each prompt's cue; an empty entry leaves its prompt unbound.
    label : str
        Shown beside the progress bar.

    Returns
    -------
    list of str
        Continuations without special tokens, in the order of `asked`; they end at the first line break or eos.
    """
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    stops = set(find_stop_tokens(tokenizer))
    texts = [""] * len(asked)
    for start in tqdm(range(0, len(order), batch), desc=label or "lists", unit="batch", leave=False):
        chosen = order[start : start + batch]
        settings = torch.tensor([penalties[i] for i in chosen])
        own = [list(beginnings[i]) if beginnings else [] for i in chosen]
        bound = torch.tensor([bool(tokens) for tokens in own])
        cues = torch.tensor([tokens + [boundary] * (max(map(len, own)) - len(tokens)) for tokens in own], dtype=torch.long)

        def pick(scores, ids, rows, step, settings=settings, bound=bound, cues=cues):
            scores = penalise(scores, ids, settings[rows])
            mine = bound[rows].to(scores.device)
            if mine.any():
                new = ids[mine, ids.shape[1] - step :]
                scores[mine] = forbid_beginnings(scores[mine], new, boundary, cues[rows].to(ids)[mine])
            return scores.argmax(dim=-1)

        new = continue_rows(
            model, tokenizer.pad_token_id, [tokenizer(asked[i])["input_ids"] for i in chosen], pick=pick,
            ends=lambda _, tokens: tokens[-1] in stops, max_new_tokens=max_new_tokens,
        )  # fmt: skip
        for i, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            texts[i] = text
    return texts


def generate_lists(
    cfg: Config,
    model,
    tokenizer,
    language: Language,
    cues: Sequence[str],
    decodings: Sequence[Decoding],
    *,
    examples=(),
    label: str = "",
) -> pd.DataFrame:
    """Associations of a model to cues under each decoding.

    Returns
    -------
    DataFrame
        `decoding, cue, text` (as generated) and `responses` (parsed list), one row a decoding and cue.
    """
    settings = cfg.profile.lexical
    asked = [prompts.build_few_shot(language, examples, cue) for cue in cues] * len(decodings)
    penalties = [decoding.repetition_penalty for decoding in decodings for _ in cues]
    beginnings = [find_beginnings(tokenizer, cue) if decoding.distinct else [] for decoding in decodings for cue in cues]
    texts = generate_texts(
        model, tokenizer, asked, penalties, max_new_tokens=settings.max_new_tokens, batch=settings.batch,
        boundary=find_boundary(tokenizer, language), beginnings=beginnings, label=label,
    )  # fmt: skip
    frame = pd.DataFrame(
        {"decoding": [d.name for d in decodings for _ in cues], "cue": list(cues) * len(decodings), "text": texts}
    )
    return frame.assign(
        responses=[prompts.parse_list(language, text, cue=cue) for cue, text in zip(frame["cue"], texts, strict=True)]
    )


def choose_decoding(
    cfg: Config,
    model,
    tokenizer,
    language: Language,
    norms: pd.DataFrame,
    valid: Sequence[str],
    *,
    examples=(),
    label: str = "",
) -> tuple[Decoding, pd.DataFrame]:
    """Try every setting of the grid on the validation cues and take the best mean P@5 (attested; the first one at a tie).

    Returns
    -------
    (Decoding, DataFrame)
        The choice; `decoding, precision` of all settings.
    """
    label = f"{label}, choice of decoding"
    tried = generate_lists(cfg, model, tokenizer, language, valid, cfg.profile.lexical.grid, examples=examples, label=label)
    return rank_decodings(cfg, tried, norms, language)


def rank_decodings(cfg: Config, tried: pd.DataFrame, norms: pd.DataFrame, language: Language) -> tuple[Decoding, pd.DataFrame]:
    """The choice of `choose_decoding` from lists that were made with every setting of the grid (`generate_lists`)."""
    grid, scores = cfg.profile.lexical.grid, []
    for decoding in grid:
        lists = tried.loc[tried["decoding"] == decoding.name, ["cue", "responses"]]
        scored = lexical.score_lists(lists, norms, language, ks=[5], min_count=cfg.profile.lexical.min_count)
        scores.append(scored.loc[scored["reading"] == "attested", "precision"].mean())
    return grid[int(np.argmax(scores))], pd.DataFrame({"decoding": [d.name for d in grid], "precision": scores})


def pick_examples(cfg: Config, norms: pd.DataFrame, train: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Worked examples of the few-shot prompt: training cues drawn by the seed, with their strongest responses."""
    rng = np.random.default_rng(cfg.profile.seed)
    cues = [str(cue) for cue in rng.choice(sorted(train), size=cfg.profile.lexical.few_shot, replace=False)]
    lists = prompts.draw_lists(norms, cues, length=cfg.profile.sft.list_length, order="strength", seed=0)
    return list(zip(cues, lists, strict=True))


def load_states(cfg: Config, name: str, seed: int | None = None):
    """Load a base model once with every adapter of the run that one seed gave (default the profile's).

    Returns
    -------
    (model, tokenizer, dict)
        The dict maps (culture, stage) to the adapter's name.

    Raises
    ------
    MissingInput
        An adapter has not been trained yet; names the notebook.
    ModelError
        An adapter changes nothing (`models.check_adapters`).
    """
    folders = {
        (culture, stage): require(
            find_adapter(cfg, name, culture, stage, seed) / "step.json", made_by=name_notebook(stage)
        ).parent
        for culture in cfg.cultures
        for stage in list_trained(cfg)
    }
    model, tokenizer = load_base(cfg.models[name], seed=cfg.profile.seed)
    for (culture, stage), folder in folders.items():
        model = attach_adapter(model, folder, f"{culture}_{stage}")
    names = {key: f"{key[0]}_{key[1]}" for key in folders}
    check_adapters(model.eval(), tokenizer, {names[key]: folder for key, folder in folders.items()})
    return model, tokenizer, names
