"""`python -m node.cli` is `overread`."""

from node.cli import main

main()
