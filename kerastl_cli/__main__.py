"""`python -m kerastl_cli`, the same as `kerastl`."""

from kerastl_cli.main import main

main()
