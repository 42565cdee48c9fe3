"""`make grid`: jobs against a hand-worked grid, known by their keys; a real Snakemake run with a job that fails, is mended and resumed."""

import sys
from importlib.util import find_spec

import pandas as pd
import pytest
from conftest import ROOT, copy_project, prepare

from align_utils import config
from align_utils.config import ConfigError
from align_utils.lexical import drawn, lists
from align_utils.models.adapters import find_adapter
from align_utils.store.steps import hash_settings, make_step, save_frame
from align_utils.survey.answers import find_readings
from align_utils.training.job import Job

sys.path.insert(0, str(ROOT / "grid"))
import run as grid_run

FIRST, SECOND = "seed-20261124", "seed-7"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project with two seeds and no controls, where notebook 01 has run; its configuration and a writer of grid files."""
    root = copy_project(tmp_path)
    monkeypatch.setenv("ALIGN_ROOT", str(root))
    monkeypatch.delenv("ALIGN_OUTPUT", raising=False)
    settings = root / "notebooks" / "settings"
    (settings / "profiles" / "two.yaml").write_text("extends: smoke\nseeds: [7]\ncontrols: []\n")

    def write(text, name="own"):
        path = settings / "grids" / f"{name}.yaml"
        path.write_text(text)
        return path

    cfg = config.load("two", root=root)
    prepare(cfg)
    return cfg, write


def test_a_grid_is_the_product_that_one_writes_down_by_hand(project):
    cfg, write = project
    path = write("profile: two\ncultures: [us]\nstages: [ppo, survey_taught_a]\nablations: [ppo]\n")
    jobs = grid_run.expand(*grid_run.read_grid(path))
    variants = ["sft", "default", "free", "fast", "far", "alone"]
    trained = {  # with sft, from which ppo starts
        f"us/sft/{FIRST}": [], f"us/sft/{SECOND}": [], f"us/survey_taught_a/{FIRST}": [f"survey/tiny/untuned/{FIRST}"],
        f"us/ppo/{FIRST}": [f"train/tiny/us/sft/{FIRST}"], f"us/ppo/{SECOND}": [f"train/tiny/us/sft/{SECOND}"],
    }  # fmt: skip
    expected = {f"train/tiny/{place}": needs for place, needs in trained.items()}
    # The untuned model's answers say by which reading the adapters are asked.
    for kind, more in (("lists", []), ("survey", [f"survey/tiny/untuned/{FIRST}"])):
        expected[f"{kind}/tiny/untuned/{FIRST}"] = []
        asked = [place for place in trained if kind == "survey" or "taught" not in place]
        expected |= {f"{kind}/tiny/{place}": [f"train/tiny/{place}", *more] for place in asked}
    expected |= {f"ablation/ppo/tiny/us/{variant}": [f"train/tiny/us/sft/{FIRST}"] for variant in variants}
    expected["table/ppo"] = [f"ablation/ppo/tiny/us/{variant}" for variant in variants]
    assert {name: job.needs for name, job in jobs.items()} == expected
    assert not any(job.stored for job in jobs.values())
    command = "-m align_utils.training --model tiny --culture us --stage ppo --seed 7 --profile two"
    assert jobs[f"train/tiny/us/ppo/{SECOND}"].command[1:] == command.split()
    assert jobs["table/ppo"].command[-6:] == ["--model", "tiny", "--culture", "us", "--profile", "two"]
    whole = grid_run.expand(*grid_run.read_grid(write("profile: two\n")))
    stages = ("sft", "ppo", "rloo", "grpo")
    assert sum(name.startswith("train/") for name in whole) == 2 * (2 * len(stages) + 2), "cultures x (seeds x stages + halves)"


def test_several_gpus_of_a_training_are_shared_by_accelerate_and_a_kind_asks_for_what_its_grid_says(project):
    cfg, write = project
    asked = "resources: {train: {gpus: 4, cpus: 8, memory_gb: 64, minutes: 90}}\n"
    grid, cfg = grid_run.read_grid(write(f"profile: two\ncultures: [us]\nstages: [sft]\nseeds: [7]\n{asked}"))
    folder = cfg.runs
    plan = grid_run.write_plan(grid_run.expand(grid, cfg), grid, cfg, folder)
    assert list(plan) == [
        f"survey/tiny/untuned/{FIRST}", f"train/tiny/us/sft/{SECOND}", f"lists/tiny/untuned/{FIRST}", f"lists/tiny/us/sft/{SECOND}",
        f"survey/tiny/us/sft/{SECOND}",
    ]  # fmt: skip
    train, survey = plan[f"train/tiny/us/sft/{SECOND}"], plan[f"survey/tiny/us/sft/{SECOND}"]
    assert "-m accelerate.commands.launch --config_file" in train["command"]
    assert "--num_processes 4 -m align_utils.training" in train["command"]
    assert [train[key] for key in ("gpus", "cpus", "memory_mb", "minutes")] == [4, 8, 64000, 90]
    assert survey["gpus"] == 0 and survey["needs"] == [f"train/tiny/us/sft/{SECOND}", f"survey/tiny/untuned/{FIRST}"]


def test_what_is_stored_is_known_by_its_keys_and_falls_with_what_it_was_made_from(project):
    cfg, write = project
    grid, cfg = grid_run.read_grid(write(f"profile: two\ncultures: [us]\nstages: [sft]\nseeds: [{cfg.profile.seed}]\n"))
    people = grid_run.load_run(cfg)
    trained, listed = f"train/tiny/us/sft/{FIRST}", f"lists/tiny/us/sft/{FIRST}"

    def stored(cfg):
        return {name for name, job in grid_run.expand(grid, cfg).items() if job.stored}

    job = Job(cfg, "tiny", "us", "sft", people["us"], cfg.profile.seed)
    with make_step(job.folder, job.describe()) as work:
        (work / "adapter_model.safetensors").write_bytes(b"weights")
    assert stored(cfg) == {trained}
    mine = lists.plan_lists(cfg, "tiny", people).pick(("us", "sft"), cfg.profile.seed).steps.values()
    for step in mine:
        with make_step(step.folder, step.settings):
            pass
    assert len(mine) == 1 and stored(cfg) == {trained}, "the drawn lists are part of the same job"
    draws = drawn.plan_draws(cfg, "tiny", people, drawn.describe_draw(cfg))
    (own,) = draws.pick(("us", "sft"), cfg.profile.seed).steps.values()
    with make_step(own.folder, own.settings):
        pass
    assert stored(cfg) == {trained, listed}
    # The adapter is to be trained anew: its lists have the key of the old one, and would be taken for finished.
    faster = config.overlay_config(cfg, {"sft": {"learning_rate": 1e-3}}, source="test", runs=cfg.runs)
    assert stored(faster) == set()


def test_the_notebooks_find_what_a_grid_has_made(project):
    cfg, write = project
    _, whole = grid_run.read_grid(write("profile: two\n"))
    main, people = config.profiles.take_main_line(cfg), grid_run.load_run(cfg)
    items, _ = grid_run.read_people(cfg)
    told = [("tiny", name, readout, readout != "label") for name in cfg.languages for readout in ("label", "unlisted_sum")]
    save_frame(pd.DataFrame(told, columns=["model", "language", "readout", "chosen"]), find_readings(cfg, "tiny"))

    def keys(cfg):
        plans = [plan for kind in ("lists", "survey") for plan in grid_run.list_plans(cfg, kind, "tiny", people, items)]
        return {step.folder: hash_settings(step.settings) for plan in plans for step in plan.steps.values()}

    made, read = keys(whole), keys(main)
    assert len(read) > 20 and {folder: made.get(folder) for folder in read} == read
    # The command line trains with the profile as it stands.
    trained = [Job(one, "tiny", "us", "sft", people["us"], 7).describe() for one in (cfg, whole, main)]
    assert len({hash_settings(key) for key in trained}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "profile: two\nseeds: [8]\n",
            "'seeds': 8: profile 'two' has 20261124, 7; add it there, or 04 to 06 would not read it",
        ),
        ("profile: two\nstages: [dpo]\n", "'stages': dpo: profile 'two' has sft, ppo, rloo, grpo, survey_taught_a,"),
        ("profile: two\nablations: [dpo]\n", "field 'ablations': dpo: notebooks/settings/ablations has ppo, sft"),
        ("profile: two\nseed: 7\n", "field 'seed': Extra inputs are not permitted"),
        ("profile: two\nresources: {train: {gpu: 1}}\n", "field 'resources.train.gpu': Extra inputs are not permitted"),
        ("profile: none\n", "none.yaml: no such file; found in that folder: base,"),
    ],
)
def test_a_grid_that_is_not_sound_is_told_what_there_is(project, text, expected):
    _, write = project
    with pytest.raises(ConfigError) as error:
        grid_run.read_grid(write(text))
    assert expected in str(error.value)


@pytest.mark.skipif(find_spec("snakemake") is None, reason="the extra `grid` is not installed (`make grid` installs it)")
def test_a_job_that_fails_stops_no_other_and_is_taken_up_again_alone(project, capfd):
    cfg, write = project
    path = write(f"profile: two\ncultures: [us]\nstages: [sft]\nseeds: [{cfg.profile.seed}]\n")

    def start(*options):
        code, said = grid_run.main([str(path), *options]), capfd.readouterr()
        return code, said.out + said.err

    code, said = start("--profile", str(ROOT / "grid" / "slurm"), "--dry-run")
    assert code == 0 and "5 jobs, 0 stored, 5 to do" in said and "This was a dry-run" in said, said
    place = find_adapter(cfg, "tiny", "us", "sft").parent
    place.parent.mkdir(parents=True)
    place.write_text("a file where a folder belongs")
    code, said = start()
    assert code == 1 and "2 of 5 jobs are done, 1 failed or were broken off, 2 did not begin" in said, said
    assert f"  train/tiny/us/sft/{FIRST}: NotADirectoryError" in said
    steps = {file: file.stat().st_mtime_ns for file in cfg.runs.glob("steps/**/step.json")}
    assert {file.parent.name for file in steps} >= {"tiny_us_few_shot", "tiny_none_zero_shot_label"}
    place.unlink()
    code, said = start()
    assert code == 0 and "5 jobs, 2 stored, 3 to do" in said and "3 of 3 jobs are done" in said, said
    assert all(file.stat().st_mtime_ns == when for file, when in steps.items())
    code, said = start()
    assert code == 0 and "5 jobs, 5 stored, 0 to do" in said and "Building DAG" not in said, said
