"""`python -m kerastl`, the same as `kerastl`."""

from kerastl.cli.main import main

main()
