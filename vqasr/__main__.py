"""`python -m vqasr`."""

from vqasr.cli.main import main

main()
