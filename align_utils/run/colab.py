"""What a Colab or Kaggle runtime needs before the notebooks run."""

from __future__ import annotations

import os
from pathlib import Path

# Where official files are expected and where results outlive the machine; on Colab both are on Drive.
DRIVE = Path("/content/drive")
COLAB = DRIVE / "MyDrive" / "align-data", DRIVE / "MyDrive" / "align-output"
KAGGLE = Path("/kaggle/input/align-data"), Path("/kaggle/working/align-output")


def setup() -> None:
    """Point `ALIGN_OUTPUT` to where results last and `ALIGN_DATA` to its folder, if it is there, and say which GPU was given.

    Each notebook on Colab has a machine of its own, which is lost with the connection: on Drive 02 finds what 01 has made, and an
    interrupted training its checkpoints. Without a GPU, which the profile `colab` needs, or without Drive a RuntimeError names the
    remedy.
    """
    data, output = KAGGLE
    if "KAGGLE_KERNEL_RUN_TYPE" not in os.environ:
        data, output = COLAB
        from google.colab import drive

        try:
            drive.mount(str(DRIVE))
        except Exception as error:  # of several kinds: access refused, no answer, another mount
            raise RuntimeError(
                f"Drive, where results are kept, was not mounted ({error}): allow it and run this cell again"
            ) from error
    os.environ.setdefault("ALIGN_OUTPUT", str(output))
    if data.is_dir():
        os.environ.setdefault("ALIGN_DATA", str(data))
    else:
        print(f"No {data}: profile `colab` needs your official files there; PROFILE = 'cpu' runs on the bundled sample.")
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(
            "no GPU: choose one for this session (Colab: Runtime > Change runtime type > T4 GPU), then run all cells again"
        )
    print(
        f"GPU: {torch.cuda.get_device_name()}; real files: {os.environ.get('ALIGN_DATA', 'none')}; results: {os.environ['ALIGN_OUTPUT']}"
    )
