"""`make bench`: each race runs both sides in fresh processes and prints how many times faster ours is. No test depends on it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RACES = {
    "norms": "load, check, strengths and ranks of a synthetic strength file as long as the English R1 release (483,636 rows)",
    "generation": "lists for 24 cues against transformers' generate, one cue at a time",
    "survey_labels": "label probabilities of 4 items in both languages against one plain forward pass per label",
    "sft_step": "a step of 16 lists against trl's own loss (chunked_nll, no bf16, no checkpointing)",
}


def race_norms(side: str) -> dict:
    import numpy as np
    import pandas as pd

    from align_utils import config, norms

    rng = np.random.default_rng(1)
    cues, rows = 12_217, 483_636
    syllables = np.array(["ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu", "za"])
    words = np.array(["".join(row) for row in syllables[rng.integers(16, size=(60_000, 4))]])
    words = np.unique(words)
    pairs = rng.choice(len(words) * cues, size=rows, replace=False)
    frame = pd.DataFrame({"cue": np.char.add("cue ", (pairs % cues).astype(str)), "response": words[pairs // cues]})
    frame["R1"] = rng.integers(1, 30, size=rows)
    frame["N"] = frame.groupby("cue")["R1"].transform("sum")
    language = config.load("smoke").languages["en"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "strength.SWOW-EN.R1.csv"
        frame.to_csv(path, sep="\t", index=False)
        start = time.perf_counter()
        if side == "ours":
            result, _ = norms.load_strengths(path, language, "R1")
        else:
            raw = pd.read_csv(path, sep="\t", keep_default_na=False, dtype={"cue": str, "response": str})
            result = raw.groupby("cue", group_keys=False)[raw.columns.tolist()].apply(_rank_one)
            result = result.rename(columns={"R1": "count", "N": "n"}).sort_values(["cue", "rank"], ignore_index=True)
        seconds = time.perf_counter() - start
    columns = ["cue", "response", "count", "n", "strength", "rank"]
    digest = hashlib.sha256(result[columns].round(12).to_csv(index=False).encode()).hexdigest()
    return {"seconds": seconds, "result": digest}


def _rank_one(group):
    group = group.sort_values(["R1", "response"], ascending=[False, True])
    return group.assign(strength=group["R1"] / group["N"], rank=range(1, len(group) + 1))


def race_generation(side: str) -> dict:
    from align_utils import generation, pairs, prompts

    cfg, model, tokenizer = _load_model()
    concepts, _ = pairs.load_pairs(cfg)
    cues = concepts["cue_en"].tolist()[:24]
    asked = [prompts.build_list_prompt(cfg.languages["en"], cue) for cue in cues]
    length, stops = cfg.profile.lexical.max_new_tokens, generation.find_stop_tokens(tokenizer)
    start = time.perf_counter()
    if side == "ours":
        texts = generation.generate_texts(model, tokenizer, asked, [1.15] * len(asked), max_new_tokens=length, batch=72)
    else:
        texts = []
        for text in asked:
            inputs = tokenizer(text, return_tensors="pt")
            output = model.generate(
                **inputs, max_new_tokens=length, do_sample=False, repetition_penalty=1.15, eos_token_id=stops,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            texts.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return {"seconds": time.perf_counter() - start, "result": texts}


def race_survey_labels(side: str) -> dict:
    import numpy as np
    import torch

    from align_utils import survey, wvs

    cfg, model, tokenizer = _load_model()
    items = wvs.load_items(cfg.root / "data" / "survey")
    short = items[items["codes"].map(len) < 10].head(4)
    asked = survey.list_questions(cfg, short)
    start = time.perf_counter()
    if side == "ours":
        scores = survey.score_labels(model, tokenizer, asked, batch_tokens=cfg.profile.survey.batch_tokens)
    else:
        scores = []
        for question in asked:
            prefix = len(tokenizer(f"{question.prompt} ")["input_ids"])
            row = []
            for place in range(1, len(question.order) + 1):
                ids = torch.tensor([tokenizer(f"{question.prompt} {place}")["input_ids"]])
                with torch.inference_mode():
                    logs = torch.log_softmax(model(ids).logits[0], dim=-1)
                row.append(float(sum(logs[at - 1, ids[0, at]] for at in range(prefix, ids.shape[1])).exp()))
            scores.append(np.array(row))
    return {"seconds": time.perf_counter() - start, "result": [row.tolist() for row in scores]}


def race_sft_step(side: str) -> dict:
    from datasets import Dataset
    from transformers import TrainerCallback, set_seed
    from trl import SFTTrainer

    from align_utils import adapters, norms, sft
    from align_utils.loss import FusedTrainer

    cfg, model, tokenizer = _load_model()
    tokenizer.padding_side = "right"
    frame, language, times = norms.load_norms(cfg, "us")["norms"], cfg.languages["en"], []
    cues, length = sorted(frame["cue"].unique()), cfg.profile.sft.list_length
    examples = sft.build_examples(frame, cues, language, rows=64, length=length, order="sampled", seed=1)

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            times.append(-time.perf_counter())

        def on_step_end(self, *_, **__):
            times[-1] += time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        set_seed(1)
        trainer = {"ours": FusedTrainer, "baseline": SFTTrainer}[side](
            model=model, args=sft.configure_sft(cfg, Path(folder), max_steps=4, eval_strategy="no", save_strategy="no", disable_tqdm=True),
            processing_class=tokenizer, train_dataset=Dataset.from_list(examples), peft_config=adapters.configure_lora(cfg),
            callbacks=[Clock()],
        )  # fmt: skip
        loaded = _measure_memory()
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    # The first step warms up; memory is what training adds to the loaded model.
    return {"seconds": sum(times[1:]) / 3, "result": losses, "mb": _measure_memory() - loaded}


def _load_model():
    from align_utils import config, models

    cfg = config.load("cpu")
    model, tokenizer = models.load_base(cfg.models["gemma-3-270m"], seed=1)
    return cfg, model, tokenizer


def _measure_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def agree(first, second, tolerance: float = 1e-4) -> bool:
    """Same texts or digests; numbers equal within the tolerance, relative to the larger or absolute below 1."""
    if isinstance(first, list):
        return len(first) == len(second) and all(agree(a, b, tolerance) for a, b in zip(first, second, strict=True))
    if isinstance(first, float):
        return abs(first - second) <= tolerance * max(1.0, abs(first))
    return first == second


def run_side(race: str, side: str) -> dict:
    environment = {"THP_MEM_ALLOC_ENABLE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ, "ALIGN_ROOT": str(ROOT)}
    command = [sys.executable, str(Path(__file__)), race, "--side", side]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("races", nargs="*", choices=[*RACES, []], help="default: all")
    parser.add_argument("--side", choices=["ours", "baseline"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        outcome = globals()[f"race_{options.races[0]}"](options.side)
        print(json.dumps({"mb": _measure_memory(), **outcome}))
        return
    rows = []
    for race in options.races or RACES:
        print(f"{race}: {RACES[race]} ...", flush=True)
        ours, baseline = run_side(race, "ours"), run_side(race, "baseline")
        rows.append({
            "race": race, "baseline": RACES[race].split("against ")[-1], "ours_s": round(ours["seconds"], 3),
            "baseline_s": round(baseline["seconds"], 3), "ratio": round(baseline["seconds"] / ours["seconds"], 2),
            "ours_mb": round(ours["mb"]), "baseline_mb": round(baseline["mb"]),
            "equal": agree(ours["result"], baseline["result"]), "note": RACES[race],
        })  # fmt: skip
        shown = rows[-1]
        print(
            f"  {shown['ratio']} times faster ({shown['ours_s']} s against {shown['baseline_s']} s; {shown['ours_mb']} against "
            f"{shown['baseline_mb']} MB); same result: {shown['equal']}",
            flush=True,
        )
    (ROOT / "runs").mkdir(exist_ok=True)
    (ROOT / "runs" / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
