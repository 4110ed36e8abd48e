"""`python -m kerastl`, the same as `kerastl`."""

from kerastl_cli.main import main

main()
