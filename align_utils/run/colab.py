"""What a Colab or Kaggle runtime needs before the notebooks run, and the address by which they find this project."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from align_utils.config.profiles import PACKAGE_ROOT
from align_utils.run.doctor import examine_profile, find_gpus, show

# Where official files are expected and where results outlive the machine; on Colab both are on Drive.
DRIVE = Path("/content/drive/MyDrive")
COLAB = DRIVE / "align-data", DRIVE / "align-output"
KAGGLE = Path("/kaggle/input/align-data"), Path("/kaggle/working/align-output")


def setup() -> None:
    """Point `ALIGN_OUTPUT` to where results last and `ALIGN_DATA` to the official files, and say what was found and what is missing.

    Each notebook on Colab has a machine of its own, which is lost with the connection: on Drive 02 finds what 01 has made, and an
    interrupted training its checkpoints. Without a GPU, which both profiles for Colab need, a RuntimeError names the remedy.
    """
    data, output = KAGGLE if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else COLAB
    os.environ.setdefault("ALIGN_OUTPUT", str(output))
    os.environ.setdefault("ALIGN_DATA", str(data))
    gpus, marks = find_gpus(), {}
    for name, what in (("colab_sample", "the bundled sample"), ("colab", "your official files")):
        print(f'PROFILE = "{name}", on {what}:')
        marks[name] = examine_profile(name, gpus)
        # What both need is said once.
        show([finding for finding in marks[name] if name == "colab_sample" or finding not in marks["colab_sample"]])
    print(f"Results: {os.environ['ALIGN_OUTPUT']}")
    for finding in marks["colab_sample"]:
        if (finding.mark, finding.subject) == ("no", "GPU"):
            raise RuntimeError(f"no GPU that will do: choose one for this session, then run all cells again. {finding.text}")


def move_address(root: Path, url: str) -> list[Path]:
    """Write another address of the repository where the present one stands: pyproject.toml, badges and setup cells. The files that changed.

    Raises
    ------
    ValueError
        It is not the address of a repository on GitHub, the only ones that Colab's badges open.
    """
    new = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", url)
    if not new:
        raise ValueError(f"expected URL=https://github.com/<owner>/<name>, found '{url}'")
    project = root / "pyproject.toml"
    (old,) = re.findall(r'^Repository = "https://github\.com/(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)
    # github.com/<owner>/<name>, and colab.research.google.com/github/<owner>/<name>.
    present, changed = re.compile(rf"(github(?:\.com)?/){re.escape(old)}(?![\w.-])"), []
    for path in (project, root / "README.md", *sorted((root / "notebooks").rglob("*.ipynb"))):
        text = path.read_text(encoding="utf-8")
        moved = present.sub(lambda match: match[1] + new[1], text)
        if moved != text:
            path.write_text(moved, encoding="utf-8")
            changed.append(path)
    return changed


def main() -> int:
    """`python -m align_utils.run.colab URL`: `move_address` in this project."""
    try:
        changed = move_address(PACKAGE_ROOT, " ".join(sys.argv[1:]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(changed)} files now say where the project is: pyproject.toml, badges and setup cells")
    return 0


if __name__ == "__main__":
    sys.exit(main())
