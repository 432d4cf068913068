"""`python -m seewhy_run`, the same as the command `seewhy-run`."""

from seewhy_run.main import main

main()
