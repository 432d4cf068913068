"""`train.py` with members that take a moment instead of training: they leave what a training leaves, epoch by epoch.

Every start of a member adds a line to `starts.txt` in its folder, and every end to `ends.txt`.
"""

import json
import os
import time
from pathlib import Path

EPOCHS = 3


def member(config):
    """Run the epochs that are missing; the score is best for a learning rate of 0.003."""
    folder, lr = Path(config.paths.output_dir), config.model.optimizer.lr
    note(folder / "starts.txt", f"{lr} {config.ckpt_path}")
    saved = folder / "checkpoints" / "last.ckpt"
    saved.parent.mkdir(exist_ok=True)
    if config.data.batch_size == 13:
        raise ValueError("13 is unlucky")
    for epoch in range(int(saved.read_text()) if config.ckpt_path else 0, EPOCHS):
        time.sleep(float(os.environ.get("TINY_EPOCH", "0.02")))
        saved.with_name("next").write_text(str(epoch + 1))
        saved.with_name("next").replace(saved)
    metrics = {"val/loss": abs(lr - 0.003), "test/refined/dice": lr}
    record = {"metrics": metrics, "seed": config.seed, "objective_name": config.objective}
    (folder / "results.json").write_text(json.dumps(record))
    note(folder / "ends.txt", str(lr))
    return metrics["val/loss"]


def note(path, line):
    with path.open("a") as file:
        file.write(f"{line}\n")


def main():
    from seewhy.cli import hydra_commands

    hydra_commands.TASKS["train"] = ("tiny_search", "member")
    hydra_commands.train()


if __name__ == "__main__":
    main()
