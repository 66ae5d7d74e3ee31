"""Run the command line as `python -m vqasr`."""

from vqasr.cli.commands import main

main()
