"""Door to `seewhy.cli.train`; works without an installation, also in the processes that DDP starts."""

import os
import sys
from pathlib import Path

SOURCE = str(Path(__file__).resolve().parent / "src")
sys.path.insert(0, SOURCE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH", "")]))

if __name__ == "__main__":
    from seewhy.cli.train import main

    main()
