"""Run the notebooks headlessly, in order, and list what they made."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from tabulate import tabulate
from traitlets.config import Config as KernelConfig

from align_utils.config.profiles import PACKAGE_ROOT, Config, load
from align_utils.config.settings import ConfigError
from align_utils.store.page import load_manifest, load_metrics

# Variables by which a person's own Python and figures would reach into a run.
PERSONAL = ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "MPLBACKEND")


class RunError(RuntimeError):
    """A notebook cannot be run as asked, or one of its cells failed."""


class OwnKernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever kernel of the same name a person has registered; its bars are shown on this terminal."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(parent=self, kernel_dirs=[])

    def start_kernel(self, **options):
        """Hand the kernel this process's stderr, under a number that it does not turn into cell output (`store.progress` reads it)."""
        terminal = os.dup(2)
        os.environ["ALIGN_PROGRESS"] = str(terminal)
        return super().start_kernel(pass_fds=[terminal], **options)


def list_notebooks(root: Path, *, appendix: bool = False) -> list[str]:
    """Names of the notebooks in order, without suffix: the main line, or the appendix `A1`, `A2` ..."""
    pattern = "appendix/A[0-9]_*.ipynb" if appendix else "[0-9][0-9]_*.ipynb"
    return sorted(path.stem for path in (root / "notebooks").glob(pattern))


def run_notebook(cfg: Config, name: str) -> Path:
    """Execute one notebook (`01_norms`, or its number) with papermill in a fresh kernel of this interpreter.

    Returns the executed copy, `runs/<profile>/notebooks/<name>.ipynb`. RunError: no such notebook; a folder that cannot be written to
    (before anything runs); a failing cell (the copy so far stays).
    """
    every = [*list_notebooks(cfg.root), *list_notebooks(cfg.root, appendix=True)]
    known = {key: found for found in every for key in (found, found[:2])}
    if name not in known:
        raise RunError(f"no notebook '{name}'; there are: {', '.join(every)}")
    name = known[name]
    source = cfg.root / "notebooks" / ("appendix" if name.startswith("A") else "") / f"{name}.ipynb"
    target = cfg.runs / "notebooks" / source.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise RunError(
            f"results cannot be written to {cfg.runs} ({error.strerror}): set ALIGN_OUTPUT=<a folder of your own>"
        ) from error
    minutes = cfg.profile.minutes.get(name[:2])
    told = f", about {minutes:g} min when nothing is stored yet" if minutes else ""
    print(f"{name}: profile {cfg.profile.name}{told}", flush=True)
    try:
        # The name of a socket has a hundred letters at most.
        short = None if len(tempfile.gettempdir()) < 70 else "/tmp"
        with tempfile.TemporaryDirectory(prefix="align-", dir=short) as folder:
            _set_environment(cfg, folder)
            # Sockets in a folder of this run: a TCP port is free when it is chosen and may be taken when the kernel comes to bind it.
            kernel = {"transport": "ipc", "ip": f"{folder}/kernel"}
            papermill.execute_notebook(
                str(source), str(target), parameters={"PROFILE": cfg.profile.name}, kernel_name="python3", cwd=str(cfg.root / "notebooks"),
                progress_bar={"desc": name}, config=KernelConfig({"KernelManager": kernel}), kernel_manager_class=OwnKernel,
            )  # fmt: skip
    except PapermillExecutionError as error:
        raise RunError(
            f"{name}: cell {error.exec_count} failed\n\n{error.source}\n\n{error.ename}: {error.evalue}\n\nThe notebook so far: {target}"
        ) from error
    except RuntimeError as error:
        raise RunError(
            f"{name}: the kernel died, mostly for lack of memory: close other programs or take a smaller profile ({error}). The notebook "
            f"so far: {target}"
        ) from error
    return target


def _set_environment(cfg: Config, folder: str) -> None:
    """What the kernel inherits: this package, the run's folders (resolved, as it starts in another one), nothing personal."""
    for name in PERSONAL:
        os.environ.pop(name, None)
    paths = dict.fromkeys([str(PACKAGE_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    os.environ.update(
        ALIGN_ROOT=str(cfg.root), ALIGN_OUTPUT=str(cfg.output), TOKENIZERS_PARALLELISM="false",
        PYTHONPATH=os.pathsep.join(paths), PYTHONUTF8="1", IPYTHONDIR=folder, JUPYTER_RUNTIME_DIR=folder,
        MATPLOTLIBRC=str(PACKAGE_ROOT / "align_utils" / "plots" / "companion.mplstyle"),
    )  # fmt: skip
    # Large pages for large tensors: a fifth less time for generation on a CPU with a vocabulary this large.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not cfg.is_sample:
        os.environ["ALIGN_DATA"] = str(cfg.data_dir)


def print_summary(cfg: Config) -> None:
    """Table of everything the run made, with the headline number of each notebook beside its first entry."""
    headlines = {number: _word_record(part.iloc[0]) for number, part in load_metrics(cfg).groupby("notebook")}
    rows = []
    for entry in load_manifest(cfg):
        path, notebook = Path(entry["path"]), entry["notebook"]
        kind = {".png": "figure", ".csv": "table"}.get(path.suffix)
        if kind and path.parts[0] == "figures":
            rows.append([path.stem, kind, path, notebook, headlines.pop(notebook[:2], "")])
    print(tabulate(rows, headers=["name", "kind", "path", "notebook", "headline number"]))


def _word_record(record: pd.Series) -> str:
    where = [record[field] for field in ("culture", "stage", "language") if pd.notna(record[field]) and record[field] != ""]
    interval = f" [{record['low']:.2f}, {record['high']:.2f}]" if pd.notna(record["low"]) else ""
    return f"{record['metric']} {' '.join(where)}: {record['value']:.2f}{interval}"


def main(arguments: list[str] | None = None) -> int:
    """Command line: `python -m align_utils.run 01_norms --profile smoke`, or `--summary`."""
    parser = argparse.ArgumentParser(prog="python -m align_utils.run", description=__doc__)
    parser.add_argument("notebooks", nargs="*", help="names or numbers (01, A4); none: the main line in order")
    parser.add_argument("--appendix", action="store_true", help="the appendix too")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--summary", action="store_true", help="print what the run made, run nothing")
    options = parser.parse_args(arguments)
    try:
        cfg = load(options.profile)
        if options.summary:
            print_summary(cfg)
            return 0
        every = list_notebooks(cfg.root) + (list_notebooks(cfg.root, appendix=True) if options.appendix else [])
        for name in options.notebooks or every:
            run_notebook(cfg, name)
    except (ConfigError, RunError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Finished steps are stored; the same command goes on from there.", file=sys.stderr)
        return 130
    return 0
