"""``python -m ropd_cli`` is the ``ropd`` command."""

from ropd_cli.cli.main import main

if __name__ == "__main__":
    main()
