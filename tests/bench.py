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
TRIALS = 1_200_000  # ALIGN_BENCH_TRIALS: another size, the same for both sides
RACES = {
    "norms": "load, check, strengths, ranks and split of a synthetic strength file as long as the English R1 release (483,636 rows) against a plain groupby-apply over cues",
    "norms_trials": "1.2 million synthetic trials of the English complete file through cleaning into strengths against plain groupby-apply over participants and cues",
    "wvs_microdata": "weighted shares of 233 items in two countries out of a synthetic file of the survey's official format (97,000 rows, 600 columns, about 200 MB) against plain pandas.read_csv of the whole file and groupby-apply",
    "generation": "few-shot lists for 48 cues against transformers' generate, one cue at a time",
    "participants": "10 sampled answers of three words to each of 12 cues, few-shot, against transformers' generate, one cue at a time with num_return_sequences=10, ended at the line's end",
    "survey_labels": "label probabilities of 4 items in both languages against one plain forward pass per label",
    "sft_step": "a step of 16 lists against trl's own loss (chunked_nll, no bf16, no checkpointing)",
}


def race_norms(side: str) -> dict:
    import pandas as pd

    from align_utils import config, norms, pairs

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
            result, _ = norms.load_strengths(path, language, "R1")
        else:
            raw = pd.read_csv(path, sep="\t", keep_default_na=False, dtype={"cue": str, "response": str})
            result = raw.groupby("cue", group_keys=False)[raw.columns.tolist()].apply(_rank_one)
            result = result.rename(columns={"R1": "count", "N": "n"}).sort_values(["cue", "rank"], ignore_index=True)
        splits = pairs.split_pairs(concepts, {"en": result}, {"en": language}, valid=60, test=150, seed=1)
        parts = pairs.split_cues(result, splits, language)
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

    from align_utils import cleaning, config, norms, settings, trials

    rng, _ = _start_synthetic()
    rows = int(os.environ.get("ALIGN_BENCH_TRIALS", TRIALS))
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
    language, culture = cfg.languages["en"], cfg.cultures["us"].model_copy(update={"norms": settings.NormFiles(strengths={})})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "SWOW-EN.complete.csv"
        frame.to_csv(path, index=False)
        pd.DataFrame({"Word": words[: len(words) // 2]}).to_csv(path.with_name("wordlist.txt"), index=False)
        corrections = pd.DataFrame({"original": cues[:30], "correction": cues[30:60] if len(cues) > 60 else cues[:30]})
        corrections.to_csv(path.with_name("cueCorrections.txt"), sep="\t", index=False)
        del frame, raw
        start = time.perf_counter()
        if side == "ours":
            form = trials.find_format(path, cfg.formats)
            given, _ = trials.load_trials(path, form, culture, language)
            clean, _ = cleaning.clean_trials(given, form.steps, cleaning.load_lists(form.steps, path.parent), form.marks)
            result = norms.build_strengths(clean, language, "R123")
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

    from align_utils import microdata, wvs

    items = wvs.load_items(ROOT / "data" / "survey", choice="all")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "WVS_Cross-National_Wave_7_csv_v6_0.csv"
        # In a process of its own: memory is measured of reading alone.
        code = (
            f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; from pathlib import Path; import surveys; "
            "from align_utils import wvs; "
            f"surveys.write_official(Path({str(path)!r}), wvs.load_items(Path({str(ROOT)!r}) / 'data' / 'survey', choice='all'))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        megabytes = path.stat().st_size / 1e6
        start, used = time.perf_counter(), time.process_time()
        if side == "ours":
            people = microdata.read_respondents(
                [path], {"USA": "United States", "CHN": "China"}, items["question"].tolist(), {}
            )
            result = microdata.count_answers(people, items)
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
    from align_utils import generation

    cfg, model, tokenizer = _load_model()
    _, asked = _ask_few_shot(cfg, 48)
    length, stops = cfg.profile.lexical.max_new_tokens, generation.find_stop_tokens(tokenizer)
    start = time.perf_counter()
    if side == "ours":
        texts = generation.generate_texts(
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
    from align_utils import decoder, generation, participants

    cfg, model, tokenizer = _load_model()
    cues, asked = _ask_few_shot(cfg, 12)
    settings, stops = cfg.profile.participants, generation.find_stop_tokens(tokenizer)
    settings = settings.model_copy(update={"n": 10})
    ending = {"max_new_tokens": settings.max_new_tokens, "eos_token_id": stops, "pad_token_id": tokenizer.pad_token_id}
    start = time.perf_counter()
    if side == "ours":
        participants.sample_answers(model, tokenizer, cfg.languages["en"], cues, asked, settings, seed=1)
    else:
        for text in asked:
            inputs = tokenizer(text, return_tensors="pt")
            model.generate(**inputs, **ending, do_sample=True, top_k=0, top_p=1.0, num_return_sequences=settings.n)
    seconds = time.perf_counter() - start
    ids = [tokenizer(text)["input_ids"] for text in asked[:4]]
    if side == "ours":
        rows = decoder.continue_rows(
            model, tokenizer.pad_token_id, ids, pick=lambda scores, *_: scores.argmax(dim=-1), copies=2,
            ends=lambda _, new: new[-1] in stops, max_new_tokens=settings.max_new_tokens,
        )[::2]  # fmt: skip
    else:
        inputs = [tokenizer(text, return_tensors="pt") for text in asked[:4]]
        rows = [model.generate(**one, **ending, do_sample=False)[0, one["input_ids"].shape[1] :] for one in inputs]
    return {"seconds": seconds, "result": tokenizer.batch_decode(rows, skip_special_tokens=True)}


def _ask_few_shot(cfg, count: int):
    from align_utils import generation, norms, pairs, prompts

    concepts, _ = pairs.load_pairs(cfg)
    cues, frame = concepts["cue_en"].tolist()[:count], norms.load_norms(cfg, "us")["norms"]
    examples = generation.pick_examples(cfg, frame, sorted(set(frame["cue"]) - set(cues)))
    return cues, [prompts.build_few_shot(cfg.languages["en"], examples, cue) for cue in cues]


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
