"""`python -m semisiam` is the command `semisiam`."""

from semisiam.cli import main

main()
