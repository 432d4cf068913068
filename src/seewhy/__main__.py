"""`python -m seewhy`."""

from seewhy.cli.main import main

if __name__ == "__main__":
    main()
