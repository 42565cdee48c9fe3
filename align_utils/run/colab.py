"""What a Colab runtime needs before the notebooks run."""

from __future__ import annotations

import os
from pathlib import Path

DRIVE = Path("/content/drive")
FOLDER = DRIVE / "MyDrive" / "align-data"
OUTPUT = DRIVE / "MyDrive" / "align-output"


def setup() -> None:
    """Mount Drive, point `ALIGN_OUTPUT` there and `ALIGN_DATA` where its folder exists, and say which GPU was given.

    Each notebook on Colab has a machine of its own, which is lost with the connection: on Drive 02 finds what 01 has made, and an
    interrupted training its checkpoints. Without a GPU, which the profile `colab` needs, a RuntimeError names the remedy.
    """
    from google.colab import drive

    drive.mount(str(DRIVE))
    os.environ.setdefault("ALIGN_OUTPUT", str(OUTPUT))
    if FOLDER.is_dir():
        os.environ.setdefault("ALIGN_DATA", str(FOLDER))
    else:
        print(f"No {FOLDER}: profile `colab` needs your official files there; PROFILE = 'cpu' runs on the bundled sample.")
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("no GPU: choose Runtime > Change runtime type > T4 GPU, then run all cells again")
    data, output = os.environ.get("ALIGN_DATA", "none"), os.environ["ALIGN_OUTPUT"]
    print(f"GPU: {torch.cuda.get_device_name()}; real files: {data}; results: {output}")
