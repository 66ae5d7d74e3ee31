"""`python -m vqasr`."""

from vqasr.cli import main

main()
