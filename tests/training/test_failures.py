"""The machine's own failures: one clear error, nothing half-done taken for finished, nothing that was finished lost."""

import errno
import json
import shutil
from collections import defaultdict, namedtuple
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import copy_project, prepare
from safetensors import SafetensorError

from align_utils import store
from align_utils.config import profiles as config
from align_utils.config import settings
from align_utils.lexical import drawn, lists, participants
from align_utils.models import adapters, load
from align_utils.models.adapters import find_adapter
from align_utils.store import steps
from align_utils.survey import ask
from align_utils.training import job, reward, train
from align_utils.training.job import find_checkpoint
from align_utils.training.sft import FusedTrainer

SHORT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("failures")))
    return cfg, prepare(cfg)


@pytest.fixture(scope="module")
def adapter(project):
    cfg, people = project
    return train.train_stage(cfg, "tiny", "us", "sft", people)


@pytest.fixture
def change(project, monkeypatch):
    """Settings of a part of the profile, changed for one test."""
    cfg, _ = project

    def apply(part, **values):
        changed = getattr(cfg.profile, part).model_copy(update=values)
        monkeypatch.setitem(vars(cfg), "profile", cfg.profile.model_copy(update={part: changed}))

    return apply


def refuse(error):
    def raising(*_, **__):
        raise error

    return raising


def write_full(write):
    # Opened for reading too, so that it is never created; only streams are given to the writers, never its path.
    with Path("/dev/full").open("r+b", buffering=0) as stream:
        write(stream)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda: torch.empty(10**14), "memory"),
        (refuse(SHORT), "memory"),
        (refuse(MemoryError()), "memory"),
        (lambda: write_full(lambda stream: stream.write(b"x")), "disk"),
        (lambda: write_full(lambda stream: torch.save(torch.zeros(9), stream)), "disk"),
        (lambda: write_full(lambda stream: pd.DataFrame({"a": [1]}).to_csv(stream)), "disk"),
        (refuse(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")), "disk"),
        # As safetensors says it; not provoked: it renames its file into place, and would replace the device.
        (refuse(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")), "disk"),
        (refuse(OSError(errno.EDQUOT, "Disk quota exceeded")), "disk"),
    ],
)
def test_libraries_say_it_in_many_ways_and_we_in_one(tmp_path, act, reason):
    shown = {"memory": "step x: out of memory; lower y. ", "disk": f"step x: the disk of {tmp_path} is full"}[reason]
    with pytest.raises(steps.StepError) as caught, steps.explain("step x", folder=tmp_path, remedy="lower y"):
        act()
    assert str(caught.value).startswith(shown) and steps.KEPT_SO_FAR in str(caught.value) and caught.value.__cause__


@pytest.mark.parametrize("error", [RuntimeError("shape"), FileNotFoundError(errno.ENOENT, "no"), KeyboardInterrupt()])
def test_other_errors_pass_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, steps.explain("step x", folder=tmp_path, remedy="lower y"):
        raise error
    assert caught.value is error


def find_checkpoints(folder):
    (found,) = folder.parent.glob(".seed-*-checkpoints")
    return found


def test_a_loss_that_is_not_a_number_stops_at_its_step_and_keeps_the_checkpoint(project, change, monkeypatch):
    cfg, people = project
    change("sft", steps=8, order="strength")
    honest, seen = FusedTrainer.compute_loss, []

    def spoil(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = honest(self, model, inputs, return_outputs, num_items_in_batch)
        seen.extend([1] if model.training else [])
        return loss * float("nan") if model.training and len(seen) == 3 else loss

    monkeypatch.setattr(FusedTrainer, "compute_loss", spoil)
    with pytest.raises(
        steps.TrainingError, match=r"tiny, cn, sft: not finite at step 3: loss \(nan\); lower sft.learning_rate"
    ):
        train.train_stage(cfg, "tiny", "cn", "sft", people)
    folder = find_adapter(cfg, "tiny", "cn", "sft")
    assert len(seen) == 3 and not folder.exists()
    assert find_checkpoint(find_checkpoints(folder)).endswith("checkpoint-2")
    monkeypatch.setattr(FusedTrainer, "compute_loss", honest)
    assert pd.read_csv(train.train_stage(cfg, "tiny", "cn", "sft", people) / "log.csv")["step"].iloc[-1] == 8


def test_weights_that_diverge_are_never_saved(project, change):
    cfg, people = project
    change("sft", learning_rate=1e38)
    with pytest.raises(steps.TrainingError, match=r"not finite at step [123]: .*lower sft.learning_rate \(now 1e\+38\)"):
        train.train_stage(cfg, "tiny", "cn", "sft", people)


def test_short_memory_names_the_setting_and_with_it_lowered_training_goes_on(project, change, monkeypatch):
    cfg, people = project
    change("sft", steps=6)
    step, seen = FusedTrainer.training_step, []

    def count(self, *args, **kwargs):
        seen.append(self.state.global_step)
        if len(seen) == 4:
            raise SHORT
        return step(self, *args, **kwargs)

    monkeypatch.setattr(FusedTrainer, "training_step", count)
    with pytest.raises(steps.TrainingError, match=r"seed-\d+: out of memory; lower sft.device_batch .*\(now 8\)"):
        train.train_stage(cfg, "tiny", "cn", "sft", people)
    change("sft", device_batch=4)
    log = pd.read_csv(train.train_stage(cfg, "tiny", "cn", "sft", people) / "log.csv")
    assert seen[4:] == [2, 2, 3, 3, 4, 4, 5, 5], "steps 1 and 2 were in the checkpoint; two halves a step now"
    assert log["step"].tolist() == list(range(7))
    cost = json.loads((find_adapter(cfg, "tiny", "cn", "sft") / "step.json").read_text())["cost"]
    assert cost["note"] == "went on from checkpoint-2" and cost["seconds"] > 0 and cost["memory_gb"] > 0.1


def test_what_is_finished_stays_finished_when_a_device_takes_fewer_rows(project, adapter, change, monkeypatch):
    cfg, people = project
    folders = {name: train.train_stage(cfg, "tiny", "us", name, people) for name in ("sft", "ppo", "grpo")}
    marks = {name: (folder / "step.json").stat().st_mtime_ns for name, folder in folders.items()}
    change("sft", device_batch=2)
    change("ppo", device_batch=2)
    change("critic_free", device_batch=2)
    for name, mark in marks.items():
        assert (train.train_stage(cfg, "tiny", "us", name, people) / "step.json").stat().st_mtime_ns == mark, name
    change("ppo", kl=0.9)
    assert (train.train_stage(cfg, "tiny", "us", "ppo", people) / "step.json").stat().st_mtime_ns != marks["ppo"]
    for name in ("ppo", "grpo"):
        shutil.rmtree(folders[name])


def test_one_process_that_sees_several_gpus_is_told_to_start_one_each(monkeypatch):
    assert job.share_batch("sft.batch", 12, 8) == (6, 2)
    monkeypatch.setattr(job, "pick_device", lambda: (torch.device("cuda"), torch.bfloat16, "a card"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert job.share_batch("sft.batch", 12, 8) == (6, 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(steps.TrainingError, match="sees 2 GPUs: .*accelerate launch.*CUDA_VISIBLE_DEVICES=0"):
        job.share_batch("sft.batch", 12, 8)


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_preference_stages_refuse_sharded_weights(project, adapter, change, monkeypatch, name):
    cfg, people = project
    change("ppo", kl=0.7)
    change("critic_free", kl=0.7)
    monkeypatch.setenv(name, "true")
    for method in ("ppo", "rloo"):
        with pytest.raises(steps.TrainingError, match=rf"{method} draws lists .*ddp\.yaml"):
            train.train_stage(cfg, "tiny", "us", method, people)


def test_a_checkpoint_in_pieces_does_not_count(project, change, monkeypatch):
    cfg, people = project
    change("sft", steps=5)
    monkeypatch.setattr(train, "save_frame", refuse(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train.train_stage(cfg, "tiny", "cn", "sft", people)
    folder = find_checkpoints(find_adapter(cfg, "tiny", "cn", "sft"))
    for number, name in ((5, "optimizer.pt"), (4, "rng_state.pth")):
        assert find_checkpoint(folder).endswith(f"checkpoint-{number}")
        path = folder / f"checkpoint-{number}" / name
        path.write_bytes(path.read_bytes()[:-1])
    assert find_checkpoint(folder) is None


def test_ppo_stops_at_a_reward_or_weights_that_are_not_finite(project, adapter, change, monkeypatch):
    cfg, people = project
    folder = find_adapter(cfg, "tiny", "us", "ppo")
    with monkeypatch.context() as patch, pytest.raises(steps.TrainingError, match="for the cue '.*' is nan"):
        patch.setattr(reward, "score_reward", lambda *_: float("nan"))
        train.train_stage(cfg, "tiny", "us", "ppo", people)
    change("ppo", learning_rate=1e38)
    with pytest.raises(steps.TrainingError, match=r"us, ppo: not finite at step [12]: .*lower ppo.learning_rate"):
        train.train_stage(cfg, "tiny", "us", "ppo", people)
    assert not folder.exists() and (adapter / "step.json").is_file()


@pytest.mark.parametrize(
    ("place", "error", "shown"),
    [
        ("preference.PPOTrainer.train", SHORT, "lower ppo.device_batch"),
        ("reward.sample_lists", SHORT, "validation: out of memory; lower lexical.batch"),
        ("train.save_frame", OSError(errno.ENOSPC, "No space left on device"), "is full"),
        ("train.save_frame", KeyboardInterrupt(), None),
    ],
)
def test_ppo_cut_short_is_not_finished(project, adapter, monkeypatch, place, error, shown):
    cfg, people = project
    monkeypatch.setattr(f"align_utils.training.{place}", refuse(error))
    expected = steps.TrainingError if shown else KeyboardInterrupt
    with pytest.raises(expected, match=shown):
        train.train_stage(cfg, "tiny", "us", "ppo", people)
    assert not find_adapter(cfg, "tiny", "us", "ppo").exists() and (adapter / "step.json").is_file()


@pytest.mark.parametrize(
    ("module", "works", "setting", "call"),
    [
        (lists, "generate_lists", "lexical.batch", lambda cfg, data: lists.associate(cfg, "tiny", data)),
        (
            drawn, "sample_lists", "participants.batch",
            lambda cfg, data: participants.simulate(cfg, data, {name: participants.Panel(["sun"], None, None) for name in data}),
        ),
        (
            ask, "score_labels", "survey.batch_tokens",
            lambda cfg, data: ask.ask_survey(cfg, "tiny", pd.DataFrame(columns=["question", "kind"]), pd.DataFrame()),
        ),
    ],
    ids=["lists", "participants", "survey"],
)  # fmt: skip
def test_steps_that_ask_a_model_name_their_own_setting(project, monkeypatch, module, works, setting, call):
    cfg, people = project
    for place in (module, adapters):
        monkeypatch.setattr(place, "load_states", lambda *_: (None, None, defaultdict(lambda: None)), raising=False)
    monkeypatch.setattr(ask, "TAUGHT_HALVES", ())
    for error, shown in ((SHORT, f"out of memory; lower {setting}"), (OSError(errno.ENOSPC, "full"), "is full")):
        monkeypatch.setattr(module, works, refuse(error))
        with pytest.raises(steps.StepError, match=shown):
            call(cfg, people)
    assert not list((cfg.runs / "steps").rglob("step.json"))


def test_too_small_a_disk_is_told_before_the_work(project, adapter, monkeypatch, tmp_path):
    cfg, people = project
    with pytest.raises(steps.StepError, match=r"x: .*/new/folder needs 2000000000.0 GB free, and its disk has"):
        steps.require_space("x", tmp_path / "new" / "folder", 2e18)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9, 9, 100_000))
    monkeypatch.setattr(FusedTrainer, "train", refuse(AssertionError("trained")))
    with pytest.raises(steps.TrainingError, match=r"tiny, cn, sft: .* needs .* MB free, and its disk has 0.1 MB"):
        train.train_stage(cfg, "tiny", "cn", "sft", people)
    hub = config.read_yaml(cfg.root / "notebooks" / "settings" / "models" / "qwen2.5-7b.yaml")
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    gguf = config.read_yaml(cfg.root / "notebooks" / "settings" / "models" / "gemma-3-270m.yaml")
    for source, shown in ((hub, r"needs 15.5 GB free.*HF_HOME"), (gguf, r"needs 3.0 GB free.*ALIGN_CACHE")):
        monkeypatch.setattr(load, "try_to_load_from_cache", lambda *_: None)
        with pytest.raises(steps.ModelError, match=shown):
            load.load_base(settings.ModelSource(name="x", **source), seed=0)


def test_what_a_kill_leaves_among_the_metrics_is_not_read(project):
    cfg, _ = project
    store.Page("02_sft", cfg).close([{"metric": "m", "value": 0.5}])
    (cfg.runs / "metrics" / ".02-half.json").write_text('[{"metr')
    assert store.load_metrics(cfg)["notebook"].tolist() == ["02"]


def test_a_step_replaced_is_never_half_there(tmp_path, monkeypatch):
    folder, first = tmp_path / "step", {"seed": 1}
    with steps.make_step(folder, first) as work:
        (work / "weights").write_text("first")

    def stop(path):
        (path / "weights").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt), steps.make_step(folder, {"seed": 2}) as work:
        (work / "weights").write_text("second")
    assert not steps.find_step(folder, first) and steps.find_step(folder, {"seed": 2})
    assert (folder / "weights").read_text() == "second"
