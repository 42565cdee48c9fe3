"""The pinned unsloth, read but not run: what the package calls exists there, and pip finds one set for Colab. Needs a package index.

The wheels come by `pip download --no-deps` into `runs/wheels` and are read inside the archive; nothing is installed.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PathDistribution
from pathlib import PurePosixPath

import nbformat
import pytest
from calls import find_calls, find_model_calls
from conftest import ROOT
from packaging.requirements import Requirement

pytestmark = pytest.mark.extra
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# googlecolab/backend-info, pip-freeze.gpu.txt of early June 2026 (the newest listing we could read, 25 November 2026): Python
# 3.12. Colab went on to Python 3.13 on 25 August 2026 (googlecolab/colabtools issue 6081); its versions since are not known to us.
COLAB = {"torch": "2.11.0", "numpy": "2.0.2", "pandas": "2.2.2", "ipykernel": "6.17.1", "nbclient": "0.10.4"}
# What the kernel that runs the cell is made of: a newer one would be exchanged under it.
KERNEL = {"ipython": "7.34.0", "jupyter-client": "7.4.9", "traitlets": "5.7.1", "tornado": "6.5.1", "pyzmq": "26.2.1"}


def run_pip(*arguments):
    """Run pip; returns its exit status and what it says, without the lines that hold addresses."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800, cwd=ROOT)
    return done.returncode, [line for line in done.stderr.splitlines() if "://" not in line and "host=" not in line]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Skips where a small pinned package cannot be had either: whatever fails after that is a fault."""
    probe = f"tabulate=={PINS['tabulate']}"
    failed, said = run_pip("download", "--quiet", "--no-deps", "--dest", str(tmp_path_factory.mktemp("probe")), probe)
    if failed:
        pytest.skip("no package index within reach: " + next((line for line in said if line.startswith("ERROR")), "pip failed"))


class Wheels:
    """Modules of the downloaded wheels as syntax trees."""

    def __init__(self, paths):
        self.archives = [zipfile.ZipFile(path) for path in paths]
        self.names = {name: archive for archive in self.archives for name in archive.namelist()}
        self.trees = {}

    def tree(self, path):
        if path not in self.trees:
            self.trees[path] = ast.parse(self.names[path].read(path))
        return self.trees[path]

    def find(self, path, name, seen=()):
        """(module, definition) of a class or function as `path` gives it out, through its relative imports."""
        if path not in self.names or path in seen:
            return None
        for node in self.tree(path).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                return path, node
        for node in ast.walk(self.tree(path)):
            if isinstance(node, ast.ImportFrom) and node.level:
                chosen = next((a.name for a in node.names if (a.asname or a.name) == name), None)
                if chosen or node.names[0].name == "*":
                    folder = PurePosixPath(path).parents[node.level - 1] / (node.module or "").replace(".", "/")
                    for target in (f"{folder}.py", f"{folder}/__init__.py"):
                        if found := self.find(target, chosen or name, (*seen, path)):
                            return found
        return None

    def find_method(self, path, owner, name):
        """(module, definition) of a method of a class or of the classes it is made from."""
        module, node = self.find(path, owner)
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name == name:
                return module, method
        found = (
            self.find_method(module, base.id, name) for base in node.bases if isinstance(base, ast.Name) and base.id != "object"
        )
        return next(filter(None, found), None)

    def accepted(self, module, function):
        """Keywords a function takes by name; what it only hands on (`**kwargs`) counts if the function behind takes it."""
        names = named(function)
        sink = function.args.kwarg and function.args.kwarg.arg
        for call in ast.walk(function):
            if (
                isinstance(call, ast.Call)
                and sink
                and any(w.arg is None and getattr(w.value, "id", "") == sink for w in call.keywords)
            ):
                owner, _, method = ast.unparse(call.func).rpartition(".")
                behind = self.find_method(module, owner, method) if owner.isidentifier() and self.find(module, owner) else None
                if behind and behind[1] is not function:
                    names |= self.accepted(*behind)
        return names


def named(function):
    return {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}


@pytest.fixture(scope="module")
def wheels(index):
    folder = ROOT / "runs" / "wheels"
    wanted = [f"{name}=={PINS[name]}" for name in ("unsloth", "unsloth-zoo")]
    names = [folder / f"{pin.replace('-', '_').replace('==', '-')}-py3-none-any.whl" for pin in wanted]
    if not all(name.is_file() for name in names):
        failed, said = run_pip("download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), *wanted)
        assert not failed, "\n".join(said[-5:])
    return Wheels(names)


# What `import unsloth` gives out on a machine with a GPU.
GPU = "unsloth/_gpu_init.py"
LLAMA = "unsloth/models/llama.py"


def test_every_unsloth_name_and_keyword_we_use_is_in_the_pinned_source(wheels):
    assert "from ._gpu_init import *" in ast.unparse(wheels.tree("unsloth/__init__.py"))
    calls = find_calls({"unsloth"})
    assert calls, "the package no longer calls unsloth"
    for call in calls:
        _, owner, method = call.target.split(".")
        found = wheels.find_method(GPU, owner, method)
        assert found, f"{call.where}: {call.target} is not in unsloth {PINS['unsloth']}"
        unknown = set(call.keywords) - wheels.accepted(*found)
        assert not unknown, f"{call.where}: {call.target} does not know {sorted(unknown)}"


def test_the_reader_follows_inheritance_and_what_is_handed_on(wheels):
    methods = {
        name: wheels.find_method(GPU, "FastLanguageModel", name)
        for name in ("get_peft_model", "for_inference", "patch_peft_model")
    }
    assert {"r", "lora_alpha", "target_modules"} <= wheels.accepted(*methods["get_peft_model"]) - named(
        methods["get_peft_model"][1]
    )
    assert "rank" not in wheels.accepted(*methods["get_peft_model"])
    assert named(methods["for_inference"][1]) == {"model"} and methods["patch_peft_model"][0] == LLAMA
    assert wheels.find_method(GPU, "FastLanguageModel", "from_pretraind") is None


def test_unsloth_models_take_what_we_hand_to_a_model(wheels):
    functions = {node.name: node for node in ast.walk(wheels.tree(LLAMA)) if isinstance(node, ast.FunctionDef)}
    whole, backbone = named(functions["_CausalLM_fast_forward"]), named(functions["LlamaModel_fast_forward"])
    for call in find_model_calls():
        if call.target == "forward":
            assert set(call.keywords) <= (whole if "logits_to_keep" in call.keywords else backbone), call.where
    # `decode` makes a cache of the plain tuples that come back, and hands a cache in.
    assert "next_decoder_cache = () if use_cache else None" in ast.unparse(functions["LlamaModel_fast_forward"])
    assert "_cache_as_legacy_tuple(past_key_values)" in ast.unparse(functions["_CausalLM_fast_forward"])
    # A single token is read against buffers that are filled from the cache handed in only where there are none (`place_inputs`).
    single = ast.unparse(functions["_LlamaModel_fast_forward_inference"])
    assert "assert q_len == 1" in single and "do_prefill=not hasattr(decoder_layer.self_attn, 'paged_attention')" in single
    # Left padding (PPO) keeps its mask in training only where no labels are given, or where the backbone is told to (`preference`).
    padded = ast.unparse(functions["LlamaModel_fast_forward"])
    assert "_is_left_padded(attention_mask)" in padded and "_unsloth_keep_padding_mask" in padded


def test_bfloat16_is_asked_for_in_words_that_unsloth_keeps(wheels):
    (call,) = [call for call in find_calls({"torch"}) if call.target == "torch.cuda.is_bf16_supported"]
    replacements = [n for n in ast.walk(wheels.tree(GPU)) if isinstance(n, ast.FunctionDef) and n.name == "is_bf16_supported"]
    assert any(set(call.keywords) <= named(function) for function in replacements)


def test_our_pins_lie_within_the_bounds_of_unsloth(wheels):
    checked = set()
    for archive in wheels.archives:
        (info,) = {name.split("/")[0] for name in archive.namelist() if name.split("/")[0].endswith(".dist-info")}
        for line in PathDistribution(zipfile.Path(archive, info + "/")).requires:
            wanted = Requirement(line)
            name = wanted.name.replace("_", "-").lower()
            pins = {key.replace("_", "-").lower(): pin for key, pin in PINS.items()}
            if name in pins and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                checked.add(name)
                assert wanted.specifier.contains(pins[name]), f"{info} wants {wanted}, constraints.txt has {pins[name]}"
    assert {"transformers", "trl", "peft", "datasets", "torch", "bitsandbytes"} <= checked


def read_setup_cell():
    """Names whose pins the setup cell leaves out on Colab, and the extras it installs."""
    cells = nbformat.read(next((ROOT / "notebooks").glob("01_*.ipynb")), 4).cells
    (setup,) = [cell.source for cell in cells if "setup" in cell.metadata.get("tags", [])]
    return re.search(r"\^\(([\w|]+)\)=", setup)[1].split("|"), re.search(r"align\[([\w,]+)\]", setup)[1].split(",")


@pytest.mark.parametrize(("python", "held"), [("3.12", COLAB | KERNEL), ("3.13", {})], ids=["listing", "python-3.13"])
def test_pip_finds_one_set_for_colab(index, tmp_path, python, held):
    free, extras = read_setup_cell()
    assert set(COLAB) == set(free)
    pins = {name: pin for name, pin in PINS.items() if name not in free} | held
    # For another Python pip resolves from wheels alone, and mplfonts needs a package that comes as source: it is added after.
    wanted = PROJECT["dependencies"] + [
        n for extra in extras if extra != "fonts" for n in PROJECT["optional-dependencies"][extra]
    ]
    other = ["--only-binary=:all:", "--python-version", python, "--target", str(tmp_path / "none")]
    chosen = resolve(tmp_path, pins, *other, *wanted)
    print(
        {
            name: chosen[name]
            for name in ("torch", "numpy", "pandas", "transformers", "trl", "unsloth", "bitsandbytes", "xformers")
        }
    )
    assert {name: chosen[name].split("+")[0] for name in held} == held
    assert chosen["unsloth"] == PINS["unsloth"] and chosen["trl"] == PINS["trl"]
    assert "fonts" in extras
    added = resolve(tmp_path, pins | chosen, *PROJECT["optional-dependencies"]["fonts"])
    assert added["mplfonts"] == PINS["mplfonts"] and added["matplotlib"] == PINS["matplotlib"]


def resolve(folder, pins, *arguments):
    """What pip would install: package to version."""
    (folder / "pins").write_text("".join(f"{name}=={pin}\n" for name, pin in pins.items()))
    dry = ["--quiet", "--dry-run", "--ignore-installed", "--report", str(folder / "report.json"), "-c", str(folder / "pins")]
    failed, said = run_pip("install", *dry, *arguments)
    assert not failed, "\n".join(said[-12:])
    found = json.loads((folder / "report.json").read_text())["install"]
    return {item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"] for item in found}
