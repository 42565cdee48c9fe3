"""`make bench`: each race runs both sides in fresh processes and prints how many times faster ours is. No test depends on that."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Environment variables: default and meaning.
VARIABLES = {
    "ALIGN_BENCH_TRIALS": (1_200_000, "trials of the synthetic file of norms_trials, the same for both sides"),
    "ALIGN_BENCH_ITEMS": (4, "items of the survey races, whatever shares there are; 233 are all, 81 are those of the target"),
    "ALIGN_BENCH_BATCH": (4, "batch of lm-evaluation-harness, which computes the whole vocabulary at every position: a large one takes much memory"),
}  # fmt: skip
RACES = {
    "norms": "load, check, strengths, ranks and split of a synthetic strength file as long as the English R1 release (483,636 rows) against a plain groupby-apply over cues",
    "norms_trials": "1.2 million synthetic trials of the English complete file through cleaning into strengths against plain groupby-apply over participants and cues",
    "wvs_microdata": "weighted shares of 233 items in two countries out of a synthetic file of the survey's official format (97,000 rows, 600 columns, about 200 MB) against plain pandas.read_csv of the whole file and groupby-apply",
    "generation": "few-shot lists for 48 cues against transformers' generate, one cue at a time",
    "participants": "10 sampled answers of three words to each of 12 cues, few-shot, against transformers' generate, one cue at a time with num_return_sequences=10, ended at the line's end",
    "survey_labels": "label probabilities, with and without a space, of some items (ALIGN_BENCH_ITEMS) in both languages and all orders against lm-evaluation-harness",
    "survey_texts": "probabilities of the whole option texts of the same items against lm-evaluation-harness",
    "sft_step": "a step of 16 lists against trl's own loss (chunked_nll, no bf16, no checkpointing)",
    "sft_step_defaults": "the same step against trl's SFTTrainer with its plain defaults (bf16, gradient checkpointing)",
    "sft_step_bfloat16": "the step of sft_step in `dtype: bfloat16` against float32, where the processor multiplies bfloat16",
    "ppo_update": "a PPO update of 8 lists, two epochs, against trl's PPO as it comes: the critic with a pass of its own over the backbone, logits of every position",
}


# What a race is meant to reach; of the survey at 81 items.
TARGETS = {"sft_step": 1.7, "sft_step_bfloat16": 1.6, "survey_labels": 5.0, "survey_texts": 6.0}
# How far numbers may lie apart, where that is not 1e-4: bfloat16 holds about three digits.
TOLERANCES = {"sft_step_defaults": 0.02, "sft_step_bfloat16": 0.02}


def read_variable(name: str) -> int:
    """Value of one of VARIABLES."""
    return int(os.environ.get(name, VARIABLES[name][0]))


def race_norms(side: str) -> dict:
    import pandas as pd

    from align_utils import config
    from align_utils.norms import split, strengths

    rng, rows = _start_synthetic()
    cues, words = _make_words(rng, 12_217), _make_words(rng, 60_000)
    picked = rng.choice(len(words) * len(cues), size=rows, replace=False)
    frame = pd.DataFrame({"cue": cues[picked % len(cues)], "response": words[picked // len(cues)]})
    frame["R1"] = rng.integers(1, 30, size=rows)
    frame["N"] = frame.groupby("cue")["R1"].transform("sum")
    concepts = pd.DataFrame({"cue_en": cues[:900], "domain": "any"})
    language = config.load("smoke").languages["en"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "strength.SWOW-EN.R1.csv"
        frame.to_csv(path, sep="\t", index=False)
        start = time.perf_counter()
        if side == "ours":
            result, _ = strengths.load_strengths(path, language, "R1")
        else:
            raw = pd.read_csv(path, sep="\t", keep_default_na=False, dtype={"cue": str, "response": str})
            result = raw.groupby("cue", group_keys=False)[raw.columns.tolist()].apply(_rank_one)
            result = result.rename(columns={"R1": "count", "N": "n"}).sort_values(["cue", "rank"], ignore_index=True)
        splits = split.split_pairs(concepts, [("en", result)], {"en": language}, valid=60, test=150, seed=1)
        parts = split.split_cues(result, splits, language)
        seconds = time.perf_counter() - start
    columns = ["cue", "response", "count", "n", "strength", "rank"]
    return {"seconds": seconds, "result": [_hash_frame(result[columns].round(12)), *map(len, parts.values())]}


def _rank_one(group):
    group = group.sort_values(["R1", "response"], ascending=[False, True])
    return group.assign(strength=group["R1"] / group["N"], rank=range(1, len(group) + 1))


def race_norms_trials(side: str) -> dict:
    """A synthetic SWOW-EN.complete file with its lists: read, cleaned by the published steps, counted into strengths."""
    import numpy as np
    import pandas as pd

    from align_utils import config
    from align_utils.config import settings as config_settings
    from align_utils.norms import strengths

    rng, _ = _start_synthetic()
    rows = read_variable("ALIGN_BENCH_TRIALS")
    cues, words = _make_words(rng, max(rows // 98, 10)), _make_words(rng, 60_000)
    people = rows // 14
    frame = pd.DataFrame({"participantID": np.repeat(np.arange(1, people + 1), 14)})
    rows = len(frame)
    varieties = np.array(["United States", "United Kingdom", "Australia", "Canada", "Other_English", "Dutch"])
    frame["nativeLanguage"] = np.repeat(varieties[rng.choice(6, size=people, p=[0.5, 0.15, 0.1, 0.1, 0.1, 0.05])], 14)
    # A participant gets cues of their own set, never one twice.
    frame["cue"] = cues[(np.repeat(rng.integers(len(cues), size=people), 14) + np.tile(np.arange(14), people)) % len(cues)]
    bad = np.repeat(rng.random(people), 14)
    for place, column in enumerate(["R1", "R2", "R3"]):
        # Zipf-like choice of words; a tenth of the participants repeat, skip or write long answers.
        word = words[(len(words) * rng.random(rows) ** 6).astype(int)].astype(object)
        word[bad < 0.03] = words[0]
        long = (bad > 0.97) & (rng.random(rows) < 0.5)
        word[long] = word[long] + " and more"
        word[rng.random(rows) < 0.02 + 0.05 * place + (np.abs(bad - 0.5) < 0.02)] = "No more responses"
        frame[column] = word
    frame.loc[rng.random(rows) < 0.02, ["R1", "R2", "R3"]] = '"Unknown word'
    same = rng.random(rows) < 0.02
    frame.loc[same, "R2"] = frame.loc[same, "R1"]
    raw = frame[["R1", "R2", "R3"]].set_axis(["R1Raw", "R2Raw", "R3Raw"], axis=1)
    frame = pd.concat([frame.drop(columns=["R1", "R2", "R3"]), raw, frame[["R1", "R2", "R3"]]], axis=1)
    cfg = config.load("smoke")
    language, culture = (
        cfg.languages["en"],
        cfg.cultures["us"].model_copy(update={"norms": config_settings.NormFiles(strengths={})}),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "SWOW-EN.complete.csv"
        frame.to_csv(path, index=False)
        pd.DataFrame({"Word": words[: len(words) // 2]}).to_csv(path.with_name("wordlist.txt"), index=False)
        corrections = pd.DataFrame({"original": cues[:30], "correction": cues[30:60] if len(cues) > 60 else cues[:30]})
        corrections.to_csv(path.with_name("cueCorrections.txt"), sep="\t", index=False)
        del frame, raw
        start = time.perf_counter()
        if side == "ours":
            form = strengths.find_format(path, cfg.formats)
            clean, _, _ = strengths.choose_trials(strengths.read_trials(path, form, None, language), path, form, culture)
            result = strengths.build_strengths(clean, language, "R123")
        else:
            result = _count_plainly(path)
        seconds = time.perf_counter() - start
    columns = ["cue", "response", "count", "n", "strength", "rank"]
    return {"seconds": seconds, "result": _hash_frame(result[columns].round(12))}


def _count_plainly(path: Path):
    """The published English pipeline in plain pandas: one function a participant, one a cue, applied group by group."""
    import pandas as pd

    raw = pd.read_csv(path, keep_default_na=False, dtype={"cue": str}, quotechar='"')
    lexicon = set(pd.read_csv(path.with_name("wordlist.txt"), keep_default_na=False)["Word"])
    fixes = pd.read_csv(path.with_name("cueCorrections.txt"), sep="\t", keep_default_na=False).set_index("original")[
        "correction"
    ]
    raw = raw.replace({column: {'"Unknown word': "?", "No more responses": ""} for column in ("R1", "R2", "R3")})
    raw.loc[(raw["R1"] == raw["R2"]) & ~raw["R1"].isin(["", "?"]), "R2"] = ""
    raw.loc[(raw["R2"] == raw["R3"]) & ~raw["R2"].isin(["", "?"]), "R3"] = ""
    moved = (raw["R2"] == "") & (raw["R3"] != "")
    raw.loc[moved, "R2"] = raw.loc[moved, "R3"]
    raw.loc[moved, "R3"] = ""
    raw["cue"] = raw["cue"].map(fixes).fillna(raw["cue"])

    def judge(person):
        given = person[["R1", "R2", "R3"]].to_numpy().ravel()
        valid = [word for word in given if word not in ("", "?")]
        if (len(given) - len(valid)) / len(given) > 0.6 or sum(word in lexicon for word in valid) / len(valid) < 0.6:
            return False
        spent = len(valid) - len(set(valid)) + ("" in given and "?" in given)
        return spent / len(valid) <= 0.2 and sum(len(word.split()) > 1 for word in valid) / len(valid) <= 0.3

    raw = raw[raw["participantID"].map(raw.groupby("participantID").apply(judge))]
    points = {"United States": 3, "Canada": 2, "Australia": 2, "United Kingdom": 1}
    raw["key"] = raw["nativeLanguage"].map(points).fillna(0) + raw["participantID"] / raw["participantID"].max()

    def count(group):
        best = group[group["key"].rank(ascending=False, method="min") <= 100]
        given = pd.concat([best["R1"], best["R2"], best["R3"]])
        counts = given[~given.isin(["", "?"])].value_counts().rename("count").rename_axis("response").reset_index()
        counts = counts.sort_values(["count", "response"], ascending=[False, True])
        total = counts["count"].sum()
        return counts.assign(n=total, strength=counts["count"] / total, rank=range(1, len(counts) + 1))

    return raw.groupby("cue").apply(count).reset_index(level=0).reset_index(drop=True)


def race_wvs_microdata(side: str) -> dict:
    import pandas as pd

    from align_utils.survey import human
    from align_utils.survey import items as survey_items

    items = survey_items.load_items(ROOT / "data" / "survey", choice="all")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "WVS_Cross-National_Wave_7_csv_v6_0.csv"
        # In a process of its own: memory is measured of reading alone.
        code = (
            f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; from pathlib import Path; import surveys; "
            "from align_utils.survey import items; "
            f"surveys.write_official(Path({str(path)!r}), items.load_items(Path({str(ROOT)!r}) / 'data' / 'survey', choice='all'))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        megabytes = path.stat().st_size / 1e6
        start, used = time.perf_counter(), time.process_time()
        if side == "ours":
            options = survey_items.read_options(path.with_name("questions.csv"))
            people = human.read_respondents(
                [path], {"USA": "United States", "CHN": "China"}, items["question"].tolist(), options
            )
            dropped = {item.question: dict.fromkeys(item.drop, float("nan")) for item in items.itertuples()}
            result = human.count_answers(people.answers.replace(dropped))
        else:
            result = _weigh_plainly(pd.read_csv(path, encoding="utf-8-sig"), items)
        seconds, used = time.perf_counter() - start, time.process_time() - used
    print(f"  {side}: {megabytes:.0f} MB, {used:.1f} s of one core", file=sys.stderr)
    result = result.sort_values(["question", "country", "answer"], ignore_index=True)
    return {"seconds": seconds, "result": [result["question"].tolist(), result["answer"].tolist(), result["share"].tolist()]}


def _weigh_plainly(frame, items):
    """Shares of each answer, question by question, one function a country."""
    import pandas as pd

    frame = frame[frame["B_COUNTRY_ALPHA"].isin(["USA", "CHN"])]
    parts = []
    for item in items.itertuples():
        valid = frame[(frame[item.question] >= 0) & ~frame[item.question].isin(item.drop)]
        shares = valid.groupby("B_COUNTRY_ALPHA")[[item.question, "W_WEIGHT"]].apply(
            lambda part, question=item.question: part.groupby(question)["W_WEIGHT"].sum() / part["W_WEIGHT"].sum()
        )
        shares = shares.stack() if isinstance(shares, pd.DataFrame) else shares
        parts.append(shares.rename("share").rename_axis(["country", "answer"]).reset_index().assign(question=item.question))
    return pd.concat(parts)


def _start_synthetic():
    import numpy as np

    return np.random.default_rng(1), 483_636


def _make_words(rng, size: int):
    """Distinct made-up words of four to six syllables, in random order."""
    import numpy as np

    syllables = np.array(["ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu", "za"])
    words = np.unique(["".join(row) for row in syllables[rng.integers(16, size=(2 * size, rng.integers(4, 7)))]])
    return rng.permutation(words)[:size]


def _hash_frame(frame) -> str:
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def race_generation(side: str) -> dict:
    from align_utils.models import decode

    cfg, model, tokenizer = _load_model()
    _, asked = _ask_few_shot(cfg, 48)
    length, stops = cfg.profile.lexical.max_new_tokens, decode.find_stop_tokens(tokenizer)
    start = time.perf_counter()
    if side == "ours":
        texts = decode.generate_texts(
            model, tokenizer, asked, [1.15] * len(asked), max_new_tokens=length, batch=cfg.profile.lexical.batch
        )
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


def race_participants(side: str) -> dict:
    """Draws cannot be equal; what is compared is the greedy text of both paths (`continue_rows` with two copies a prompt)."""
    from align_utils.lexical import drawn
    from align_utils.models import decode

    cfg, model, tokenizer = _load_model()
    cues, asked = _ask_few_shot(cfg, 12)
    settings, stops = cfg.profile.participants, decode.find_stop_tokens(tokenizer)
    settings = settings.model_copy(update={"n": 10})
    ending = {"max_new_tokens": settings.max_new_tokens, "eos_token_id": stops, "pad_token_id": tokenizer.pad_token_id}
    start = time.perf_counter()
    if side == "ours":
        drawn.sample_lists(
            model, tokenizer, cfg.languages["en"], cues, asked, n=settings.n, words=settings.words, seed=1,
            temperature=settings.temperature, max_new_tokens=settings.max_new_tokens, batch=settings.batch,
        )  # fmt: skip
    else:
        for text in asked:
            inputs = tokenizer(text, return_tensors="pt")
            model.generate(**inputs, **ending, do_sample=True, top_k=0, top_p=1.0, num_return_sequences=settings.n)
    seconds = time.perf_counter() - start
    ids = [tokenizer(text)["input_ids"] for text in asked[:4]]
    if side == "ours":
        rows = decode.continue_rows(
            model, tokenizer.pad_token_id, ids, pick=lambda scores, *_: scores.argmax(dim=-1), copies=2,
            ends=lambda _, new: new[-1] in stops, max_new_tokens=settings.max_new_tokens,
        )[::2]  # fmt: skip
    else:
        inputs = [tokenizer(text, return_tensors="pt") for text in asked[:4]]
        rows = [model.generate(**one, **ending, do_sample=False)[0, one["input_ids"].shape[1] :] for one in inputs]
    return {"seconds": seconds, "result": tokenizer.batch_decode(rows, skip_special_tokens=True)}


def _ask_few_shot(cfg, count: int):
    from align_utils.lexical import lists as lexical_lists
    from align_utils.models import prompts as models_prompts
    from align_utils.norms import split, strengths

    concepts = split.load_pairs(cfg)
    cues, frame = concepts["cue_en"].tolist()[:count], strengths.load_norms(cfg)["us"].norms
    own = split.CultureNorms(frame, {"train": sorted(set(frame["cue"]) - set(cues))}, Path())
    examples = lexical_lists.pick_examples(cfg, own)
    return cues, [models_prompts.build_list_prompt(cfg.languages["en"], cue, examples) for cue in cues]


def race_survey_labels(side: str) -> dict:
    cfg, model, tokenizer = _load_model()
    asked = _ask_survey(cfg)
    texts = [[f"{form}{place}" for form in q.forms for place in range(1, len(q.order) + 1)] for q in asked]
    return _race_texts(side, cfg, model, tokenizer, asked, [q.prompt for q in asked], texts)


def race_survey_texts(side: str) -> dict:
    cfg, model, tokenizer = _load_model()
    asked = [q for q in _ask_survey(cfg) if q.worded]
    texts = [[q.forms[0] + option for option in q.options] for q in asked]
    return _race_texts(side, cfg, model, tokenizer, asked, [q.open_prompt for q in asked], texts)


def _ask_survey(cfg):
    """Presentations of ALIGN_BENCH_ITEMS items of the whole instrument, spread over it."""
    import numpy as np

    from align_utils.survey import items as survey_items

    items = survey_items.load_items(cfg.root / "data" / "survey", choice="all")
    count = read_variable("ALIGN_BENCH_ITEMS")
    if not 1 <= count <= len(items):
        raise ValueError(f"ALIGN_BENCH_ITEMS is {count}; there are {len(items)} items")
    return survey_items.list_questions(cfg, items.iloc[np.linspace(0, len(items) - 1, count).round()])


def _race_texts(side: str, cfg, model, tokenizer, asked, prompts, texts) -> dict:
    """Log-probability of every text after its prompt."""
    import torch

    given = list(zip(prompts, texts, strict=True))
    start, name = time.perf_counter(), None
    if side == "ours":
        from align_utils.models import logprobs

        read = logprobs.read_texts(model, tokenizer, given, batch_tokens=cfg.profile.survey.batch_tokens)
        result = [[float(logs.sum()) for _, logs in row] for row in read]
    elif find_spec("lm_eval"):
        from lm_eval.models.huggingface import HFLM

        batch = read_variable("ALIGN_BENCH_BATCH")
        name = f"lm-evaluation-harness {version('lm-eval')} (hf backend, a task of its own, batches of {batch})"
        harness = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", device="cpu", batch_size=batch)
        start = time.perf_counter()
        result = _run_harness(harness, given)
    else:
        name = "one plain forward pass a text (lm-evaluation-harness is not installed: extra `bench`)"
        result = []
        for prompt, row in given:
            begin, scores = len(tokenizer(prompt)["input_ids"]), []
            for text in row:
                ids = torch.tensor([tokenizer(prompt + text)["input_ids"]])
                with torch.inference_mode():
                    logs = torch.log_softmax(model(ids).logits[0], dim=-1)
                scores.append(float(sum(logs[at - 1, ids[0, at]] for at in range(begin, ids.shape[1]))))
            result.append(scores)
    return {"seconds": time.perf_counter() - start, "result": result, "baseline": name}


def _run_harness(harness, given) -> list[list[float]]:
    """Log-probabilities from the harness's own evaluation of a multiple-choice task made on the spot, a document a presentation."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate

    rows = Dataset.from_list([{"prompt": prompt, "texts": list(texts)} for prompt, texts in given])
    task = ConfigurableTask(config={
        "task": "survey", "custom_dataset": lambda **_: {"test": rows}, "test_split": "test", "output_type": "multiple_choice",
        "doc_to_text": "prompt", "doc_to_choice": "texts", "doc_to_target": 0, "target_delimiter": "",
    })  # fmt: skip
    # What `simple_evaluate` calls; it would go on to collect facts about the machine, which is none of the race.
    samples = evaluate(lm=harness, task_dict={"survey": task}, bootstrap_iters=0)["samples"]["survey"]
    return [[float(answers[0][0]) for answers in sample["resps"]] for sample in sorted(samples, key=lambda one: one["doc_id"])]


def race_sft_step(side: str, dtype: str = "float32", **changes) -> dict:
    from trl import SFTTrainer

    from align_utils.norms import strengths
    from align_utils.training import sft

    cfg, model, tokenizer = _load_model(dtype)
    frame = strengths.load_norms(cfg)["us"].norms
    settings = cfg.profile.sft.model_copy(update={"order": "sampled"})
    examples = sft.build_examples(frame, frame["cue"].unique(), cfg.languages["en"], settings, rows=64, seed=1)
    kind = {"ours": sft.FusedTrainer, "baseline": SFTTrainer}[side]
    times, losses, loaded = _train_steps(cfg, kind, model, tokenizer, examples, steps=4, **changes)
    # The first step warms up; memory is what training adds to the loaded model.
    return {"seconds": sum(times[1:]) / 3, "result": losses, "mb": _measure_memory() - loaded}


def race_sft_step_defaults(side: str) -> dict:
    return race_sft_step(side, **({} if side == "ours" else {"bf16": True, "gradient_checkpointing": True}))


def race_sft_step_bfloat16(side: str) -> dict:
    return race_sft_step("ours", {"ours": "bfloat16", "baseline": "float32"}[side])


def _train_steps(cfg, kind, model, tokenizer, examples, *, steps: int, **changes):
    """Seconds of each step, losses, and memory when the trainer stands; `changes` to trl's settings."""
    from datasets import Dataset
    from transformers import TrainerCallback, set_seed

    from align_utils.training import sft

    tokenizer.padding_side, times = "right", []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            times.append(-time.perf_counter())

        def on_step_end(self, *_, **__):
            times[-1] += time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        set_seed(1)
        plan = sft.configure_sft(cfg.profile.sft, Path(folder), steps=steps, seed=cfg.profile.seed)
        plan = dataclasses.replace(plan, eval_strategy="no", save_strategy="no", disable_tqdm=True, **changes)
        trainer = kind(
            model=model, args=plan, processing_class=tokenizer, train_dataset=Dataset.from_list(examples),
            peft_config=sft.configure_lora(cfg.profile.lora), callbacks=[Clock()],
        )  # fmt: skip
        loaded = _measure_memory()
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return times, losses, loaded


def race_ppo_update(side: str) -> dict:
    """The same trainer, adapter and critic on both sides; the baseline leaves out `preference.SharedBackbone`'s sharing."""
    from datasets import Dataset
    from peft import PeftModel
    from transformers import TrainerCallback, set_seed
    from trl.experimental.ppo import PPOTrainer, ppo_trainer

    from align_utils.lexical import precision as lexical_precision
    from align_utils.models import adapters, decode
    from align_utils.models import prompts as models_prompts
    from align_utils.norms import strengths
    from align_utils.training import job, preference, reward, sft

    cfg, model, tokenizer = _load_model()
    vars(cfg)["profile"] = cfg.profile.model_copy(update={"ppo": cfg.profile.ppo.model_copy(update={"updates": 2})})
    frame, language = strengths.load_norms(cfg)["us"].norms, cfg.languages["en"]
    asked = {
        tuple(tokenizer(models_prompts.build_list_prompt(language, cue))["input_ids"]): cue
        for cue in sorted(frame["cue"].unique())
    }
    spent = dict.fromkeys(("generation", "scoring", "optimisation"), 0.0)
    mark = [0.0]

    def close(name: str) -> None:
        now = time.perf_counter()
        spent[name], mark[0] = spent[name] + now - mark[0], now

    def closing(name: str, function):
        def run(*args, **kwargs):
            result = function(*args, **kwargs)
            close(name)
            return result

        return run

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            mark[0] = time.perf_counter()

        def on_step_end(self, *_, **__):
            close("optimisation")

    # An update is generation, then passes and rewards up to the whitened advantages, then the epochs.
    ppo_trainer.batch_generation = closing("generation", ppo_trainer.batch_generation)
    ppo_trainer.masked_whiten = closing("scoring", ppo_trainer.masked_whiten)
    with tempfile.TemporaryDirectory() as folder:
        set_seed(1)
        start = PeftModel(model, sft.configure_lora(cfg.profile.lora), adapter_name="start")
        start.save_pretrained(folder)
        policy = adapters.attach_adapter(start.unload(), Path(folder) / "start", job.POLICY, trainable=True)
        adapters.attach_adapter(policy, Path(folder) / "start", "reference")
        policy.set_adapter(job.POLICY)
        rated = reward.ListReward(lexical_precision.map_strengths(frame, language), language, cfg.profile.ppo.reward)
        rated = preference.NormReward(tokenizer, asked, rated, decode.find_boundary(tokenizer, language))
        preference.end_lists(policy, rated)
        critic = preference.Critic(policy, rated)
        if side == "baseline":
            del policy.get_base_model().forward
            critic.backbone._shared = False
        trainer = PPOTrainer(
            args=preference.configure_ppo(cfg.profile.ppo, Path(folder) / "trainer", 1), processing_class=tokenizer, model=policy, ref_model=None,
            reward_model=rated, value_model=critic, callbacks=[Clock()],
            train_dataset=Dataset.from_dict({"input_ids": list(map(list, asked))}),
        )  # fmt: skip
        loaded = _measure_memory()
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
    names = ["objective/scores", "objective/kl", "policy/entropy_avg", "loss/policy_avg", "loss/value_avg", "val/ratio"]
    result = [float(entry[name]) for entry in trainer.state.log_history if "lr" in entry for name in names]
    whole = sum(spent.values())
    shares = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in spent.items())
    return {"seconds": whole / 2, "result": result, "mb": _measure_memory() - loaded, "note": shares}


def _load_model(dtype: str = "float32"):
    from align_utils import config
    from align_utils.models import load as models

    cfg = config.load("cpu")
    model, tokenizer = models.load_base(cfg.models["gemma-3-270m"].model_copy(update={"dtype": dtype}), seed=1)
    return cfg, model, tokenizer


def _measure_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def agree(first, second, tolerance: float = 1e-4) -> bool:
    """Same texts or digests; numbers equal within the tolerance."""
    if isinstance(first, list):
        return len(first) == len(second) and all(agree(a, b, tolerance) for a, b in zip(first, second, strict=True))
    if isinstance(first, float):
        return abs(first - second) <= tolerance
    return first == second


def find_largest(first, second) -> float | None:
    """Largest difference between the numbers of two results, None where they hold other things."""
    if isinstance(first, list) and isinstance(second, list):
        return max(
            (part for pair in zip(first, second, strict=False) if (part := find_largest(*pair)) is not None), default=None
        )
    return abs(first - second) if isinstance(first, float) and isinstance(second, float) else None


def run_side(race: str, side: str) -> dict:
    """What one side of a race found, in a process of its own; `error` alone where it failed, ran out of memory or lacks a library."""
    environment = {"THP_MEM_ALLOC_ENABLE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ, "ALIGN_ROOT": str(ROOT)}
    command = [sys.executable, str(Path(__file__)), race, "--side", side]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode and not (lines and lines[-1].startswith('{"error"')):
        return {"error": f"ended with exit code {done.returncode} (-9: killed, as where memory runs out)"}
    return json.loads(lines[-1])


def run_race(race: str) -> dict:
    """The row of one race; what a side that failed did not find is None, and `failed` says why."""
    sides = {side: run_side(race, side) for side in ("ours", "baseline")}
    ours, baseline = sides["ours"], sides["baseline"]
    failed = [f"{side}: {found['error']}" for side, found in sides.items() if "error" in found]
    seconds, mb = ([side.get(name) for side in (ours, baseline)] for name in ("seconds", "mb"))
    notes = [f"{side}: {found['note']}" for side, found in sides.items() if "note" in found]
    if not failed and (apart := find_largest(ours["result"], baseline["result"])) is not None:
        notes.append(f"largest difference {apart:.1e}")
    ratio, target = None if failed else round(seconds[1] / seconds[0], 2), TARGETS.get(race)
    return {
        "race": race, "baseline": baseline.get("baseline") or RACES[race].split("against ")[-1],
        "ours_s": _round(seconds[0], 3), "baseline_s": _round(seconds[1], 3),
        "ratio": ratio, "target": target, "reached": None if failed or target is None else ratio >= target, "ours_mb": _round(mb[0]), "baseline_mb": _round(mb[1]),
        "equal": None if failed else agree(ours["result"], baseline["result"], TOLERANCES.get(race, 1e-4)), "failed": "; ".join(failed) or None,
        "note": "; ".join([RACES[race], *notes]),
    }  # fmt: skip


def _round(value: float | None, digits: int | None = None) -> float | None:
    return None if value is None else round(value, digits)


COLUMNS = ("race", "ratio", "target", "reached", "ours_s", "baseline_s", "ours_mb", "baseline_mb", "equal")


def format_row(row: dict) -> str:
    """One line of the table: COLUMNS, then the baseline's name or why the race failed."""
    words = {"None": "-", "True": "yes", "False": "no"}
    cells = [words.get(str(row[name]), str(row[name])) for name in COLUMNS]
    ending = f"FAILED, {row['failed']}" if row["failed"] else row["baseline"]
    return f"{cells[0]:<17}" + "".join(f"{cell:>12}" for cell in cells[1:]) + f"  {ending}"


def _keep(rows: list[dict]) -> None:
    """Put the rows into `runs/bench.json`, each in the place of the last one of its race."""
    path = ROOT / "runs" / "bench.json"
    known = {row["race"]: row for row in (json.loads(path.read_text()) if path.is_file() else []) + rows}
    path.write_text(json.dumps([known[race] for race in RACES if race in known], indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the races one after the other, whatever becomes of each; 1 where a side of one failed, else 0."""
    variables = "\n".join(f"  {name} (default {default}): {meaning}" for name, (default, meaning) in VARIABLES.items())
    races = "\n".join(f"  {name}: {meaning}" for name, meaning in RACES.items())
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"races:\n{races}\n\nenvironment variables:\n{variables}\n\nRows go to runs/bench.json, each in the place of the last one of its race; exit code 1 where a side failed.",
    )  # fmt: skip
    parser.add_argument("races", nargs="*", choices=[*RACES, []], metavar="race", help="default: all")
    parser.add_argument("--side", choices=["ours", "baseline"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side:
        try:
            outcome = globals()[f"race_{options.races[0]}"](options.side)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}))
            raise
        print(json.dumps({"mb": _measure_memory(), **outcome}))
        return 0
    head = format_row({name: name for name in COLUMNS} | {"failed": None, "baseline": "baseline"})
    (ROOT / "runs").mkdir(exist_ok=True)
    rows = []
    for race in options.races or RACES:
        print(f"{race}: {RACES[race]} ...", flush=True)
        rows.append(run_race(race))
        print(head, format_row(rows[-1]), sep="\n", flush=True)
        _keep(rows)
    failed = [row["race"] for row in rows if row["failed"]]
    if len(rows) > 1:  # once more in one piece: what the races themselves print stands between the rows
        print("", head, *map(format_row, rows), sep="\n")
    print(f"failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
