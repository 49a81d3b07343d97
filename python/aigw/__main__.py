"""`python -m aigw` is `aigw`."""

from aigw.cli import main

main()
