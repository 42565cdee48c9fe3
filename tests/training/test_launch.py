"""The command line and the launcher: the same training in one process and in two, on any machine."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from conftest import ROOT, copy_project, prepare

from align_utils import config
from align_utils.config import stages
from align_utils.lexical import agreement, fluency, precision
from align_utils.lexical import lists as lexical_lists
from align_utils.models.adapters import find_adapter
from align_utils.norms import controls
from align_utils.store import steps
from align_utils.training import train

# A stand-in for unsloth, which puts trainers of its own in the place of trl's when it is imported.
UNSLOTH = """
import sys
names = ("trl.trainer.sft_trainer", "trl.trainer.grpo_trainer", "trl.trainer.rloo_trainer", "trl.experimental.ppo")
before = [name in sys.modules for name in names]
import trl
trl.SFTTrainer = type("UnslothSFTTrainer", (trl.SFTTrainer,), {"__module__": "UnslothSFTTrainer"})
class FastLanguageModel:
    @staticmethod
    def from_pretrained(**_):
        sys.exit(f"trl was there: {before}, the trainer is of {sys.modules['align_utils.training.sft'].SFTTrainer.__module__}")
"""
AS_THE_NOTEBOOK = """
from align_utils import config, norms, training
cfg = config.load("smoke")
cfg.models["tiny"] = cfg.models["tiny"].model_copy(update={"backend": "unsloth"})
training.train.train_stage(cfg, "tiny", "us", "sft", norms.load_run(cfg))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("launch")))
    return cfg, prepare(cfg)


def test_two_processes_take_the_steps_of_one(run, tmp_path):
    cfg, people = run
    alone = train.train_stage(cfg, "tiny", "us", "sft", people)
    kept = alone.rename(tmp_path / "alone")
    environment = {**os.environ, "ALIGN_ROOT": str(cfg.root), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "notebooks" / "settings" / "launch" / "ddp.yaml"),
        "--num_processes", "2", "-m", "align_utils.training", "--profile", "smoke", "--culture", "us",
        *(part for name in ("sft", "ppo", "rloo", "grpo") for part in ("--stage", name)),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 processes on" in done.stdout and str(alone.relative_to(cfg.root)) in done.stdout
    one, two = (pd.read_csv(folder / "log.csv") for folder in (kept, alone))
    assert one["step"].tolist() == two["step"].tolist()
    for column in ("loss", "eval_loss"):
        pd.testing.assert_series_equal(one[column], two[column], rtol=0, atol=1e-3)
    assert one["loss"].iloc[1] - one["loss"].iloc[-1] > 0.01, "steps that change nothing would agree too"
    for name in ("ppo", "rloo", "grpo"):
        log = pd.read_csv(find_adapter(cfg, "tiny", "us", name) / "log.csv")
        updates = (cfg.profile.ppo if name == "ppo" else cfg.profile.critic_free).updates
        assert log["update"].tolist() == list(range(updates + 1)), name
        assert log["reward"].iloc[1:].notna().all() and log["chosen"].sum() == 1, name


def start_fresh(run, folder, code, **variables):
    """Code in a process of its own, with the norms of the run and an output folder in which nothing is trained yet."""
    shutil.copytree(run[0].runs / "norms", folder / "runs" / "smoke" / "norms")
    environment = {
        **os.environ,
        "ALIGN_ROOT": str(run[0].root),
        "ALIGN_OUTPUT": str(folder),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    environment["PYTHONPATH"] = f"{folder}{os.pathsep}{ROOT}"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("first", "said"), [
    ("", "trl was there: [True, True, True, True], the trainer is of trl.trainer.sft_trainer"),
    ("import unsloth\n", "SFTTrainer comes from UnslothSFTTrainer in the place of trl: unsloth was imported before. Restart Python"),
], ids=["trl-first", "unsloth-first"])  # fmt: skip
def test_trl_is_imported_before_unsloth_or_training_is_refused(run, tmp_path, first, said):
    (tmp_path / "unsloth.py").write_text(UNSLOTH)
    done = start_fresh(run, tmp_path, first + AS_THE_NOTEBOOK)
    assert done.returncode == 1 and said in done.stderr, done.stderr[-2000:]


def test_adapters_are_equal_file_for_file_whatever_the_hash_seed(run, tmp_path):
    hashes, code = [], AS_THE_NOTEBOOK.split("cfg.models")[0] + (
        "from align_utils.store.steps import hash_file\nfolders = training.train_stages(cfg, norms.load_run(cfg), ['sft', 'ppo', 'grpo'])\n"
        "print(*(hash_file(path) for (_, culture, *_), path in folders.items() if culture == 'us'))"
    )  # fmt: skip
    for seed in "12":
        done = start_fresh(run, tmp_path / seed, code, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr[-2000:]
        hashes.append(done.stdout.split()[-3:])
    assert hashes[0] == hashes[1] and len(set(hashes[0])) == 3


def test_command_line_says_that_notebook_01_has_not_run(run, monkeypatch, tmp_path):
    monkeypatch.setenv("ALIGN_ROOT", str(run[0].root))
    monkeypatch.setenv("ALIGN_OUTPUT", str(tmp_path))  # a folder in which nothing has run yet
    with pytest.raises(SystemExit) as stop:
        train.main(["--profile", "smoke"])
    assert "run notebook 01_norms first" in str(stop.value.code) and str(tmp_path) in str(stop.value.code)


def test_command_line_names_what_it_does_not_know(run, monkeypatch, capsys):
    monkeypatch.setenv("ALIGN_ROOT", str(run[0].root))
    for wrong in (["--culture", "mars"], ["--stage", "dpo"], ["--model", "gpt"]):
        with pytest.raises(SystemExit) as stop:
            train.main(["--profile", "smoke", *wrong])
        assert stop.value.code == 2 and wrong[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks" / "settings" / "launch").glob("*.yaml")), ids=lambda path: path.stem
)
def test_launch_files_are_read_by_accelerate(path):
    assert load_config_from_file(str(path)).num_processes >= 2


def test_shuffled_control_gives_every_cue_the_list_of_another(run):
    cfg, people = run
    data = controls.build_control(cfg, people, "us", "control_shuffled")
    own, cues = people["us"].norms, people["us"].cues
    true = own.groupby("cue")["response"].agg(tuple)
    wrong = data.norms.groupby("cue")["response"].agg(tuple)
    assert sorted(wrong[cues["train"]]) == sorted(true[cues["train"]]), "the same lists, each once"
    assert data.cues["train"] == cues["train"] and (wrong[cues["valid"]] == true[cues["valid"]]).all()
    source = controls.shuffle_cues(own.assign(response=own["cue"]), cues["train"], seed=3)
    assert (source["cue"] != source["response"]).all(), "no cue keeps its own list"


def test_other_culture_is_translated_by_the_pairs_alone(monkeypatch):
    monkeypatch.setattr(controls, "FEWEST", 2)
    table = pd.DataFrame(
        [("狗", "猫", 5), ("狗", "骨头", 3), ("狗", "可爱", 9), ("猫", "狗", 4), ("狗", "狗", 2)],
        columns=["cue", "response", "count"],
    )
    words = {"狗": "dog", "猫": "cat", "骨头": "bone"}
    found = controls.translate_norms(table, words, words.values())
    expected = [["dog", "cat", 5, 8, 1], ["dog", "bone", 3, 8, 2]]
    assert found[["cue", "response", "count", "n", "rank"]].values.tolist() == expected
    monkeypatch.setattr(controls, "FEWEST", 1)
    assert set(controls.translate_norms(table, words, ["cat"])["cue"]) == {"cat"}, "training cues only"


def test_a_second_seed_is_a_second_run_of_every_trained_stage(run):
    cfg, people = run
    vars(cfg)["profile"] = cfg.profile.model_copy(update={"seeds": [7]})
    families = {(name, cue): number for name in people for number, cue in enumerate(people[name].cues["test"])}
    splits = steps.read_frame(cfg.runs / "norms" / "splits.csv", made_by="01_norms")
    assert cfg.seeds == [cfg.profile.seed, 7] and len(splits)
    for seed in cfg.seeds:
        for culture in cfg.cultures:
            for name in stages.list_trained(cfg):
                train.train_stage(cfg, "tiny", culture, name, people, seed=seed)
    lexical_lists.associate(cfg, "tiny", people)
    lists = lexical_lists.read_lists(cfg)
    runs = lists.groupby("stage")["seed"].agg(set)
    assert runs["sft"] == runs["ppo"] == set(cfg.seeds) and runs["few_shot"] == runs["control_foreign"] == {cfg.profile.seed}
    first, second = (find_adapter(cfg, "tiny", "us", "sft", seed) / "adapter_model.safetensors" for seed in cfg.seeds)
    assert steps.hash_file(first) != steps.hash_file(second)
    # Every list of the second seed names a word that people gave first: half of each mean must come from it.
    words = {name: part.norms.query("rank == 1").set_index("cue")["response"] for name, part in people.items()}
    better = lists["seed"] == 7
    right = [[words[culture][cue]] for culture, cue in zip(lists["culture"], lists["cue"], strict=True)]
    lists["responses"] = pd.Series(right, index=lists.index).where(better, pd.Series([[]] * len(lists), index=lists.index))
    scored = precision.score_conditions(cfg, lists, people, families)
    shown = precision.summarise_precision(scored, **cfg.bootstrap).query("k == 5 and subset == 'all' and stage == 'sft'")
    assert shown["value"].tolist() == pytest.approx([0.1] * len(shown)) and (shown["n"] == cfg.profile.norms.test_pairs).all()
    assert (shown["low"] == 0).all() and shown["high"].tolist() == pytest.approx([0.2] * len(shown)), (
        "two runs: the interval holds both"
    )
    gaps = precision.compare_stages(cfg, scored).query("comparison == 'sft - few_shot'")
    assert gaps["value"].tolist() == pytest.approx([0.1] * len(gaps)) and (gaps["n"] <= cfg.profile.norms.test_pairs).all()
    apart = agreement.spread_precision(scored).set_index(["stage", "culture", "reading"])
    columns = [f"seed {seed}" for seed in cfg.seeds]
    assert apart.loc[("sft", "us", "top"), [*columns, "mean"]].tolist() == pytest.approx([0.0, 0.2, 0.1])
    assert (apart["seeds"] == 2).all() and set(apart.index.get_level_values("stage")) <= {"sft", "ppo", "grpo", "rloo"}, (
        "controls have one training"
    )
    neutral = fluency.read_neutral(cfg, "tiny")
    read = neutral.groupby("stage")["seed"].agg(set)
    assert read["sft"] == set(cfg.seeds) and read["zero_shot"] == {cfg.profile.seed}
    nats = neutral[neutral["stage"] == "sft"].groupby("seed")["nats"].sum()
    assert nats.nunique() == 2, "each seed's own adapter was read"
    spent = fluency.summarise_fluency(neutral, **cfg.bootstrap).set_index(["culture", "stage", "language"])
    assert spent.loc[("us", "sft", "en"), "n"] == 20
