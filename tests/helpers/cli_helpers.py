"""The command line as a user runs it, but in this process: a new one imports for seconds."""

import contextlib
import io
import subprocess
import sys

from vqasr.cli.commands import main


def vqasr(*arguments: object, ok: bool = True) -> subprocess.CompletedProcess:
    """Run a command; asserts that it succeeds, or that it fails with a message of one line."""
    done = run(*arguments)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Run a command; any exception that `main` does not turn into a message is raised here."""
    command = ["vqasr", *map(str, arguments)]
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv, code = command, 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            sys.argv = before
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
