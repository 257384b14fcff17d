"""``python -m ropd_cli``, and the ``ropd`` script."""

import sys

try:
    from ropd_cli.cli.main import main
except KeyboardInterrupt:  # the imports take a moment; later Ctrl-C is the command's to handle
    sys.exit(130)

if __name__ == "__main__":
    main()
