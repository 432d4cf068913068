"""Predict with a trained run; works without an installation, also in processes that DDP starts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

if __name__ == "__main__":
    from seewhy.cli.hydra_commands import run_script

    run_script("predict")
