"""The command line as a user runs it, but in this process: a new one imports for seconds."""

import contextlib
import io
import subprocess
import sys
from typing import TextIO

from vqasr.cli.commands import main


def vqasr(
    *arguments: object, ok: bool = True, stdin: bytes = b"", stderr: TextIO | None = None
) -> subprocess.CompletedProcess:
    """Run a command; asserts that it succeeds, or that it fails with a message of one line."""
    done = run(*arguments, stdin=stdin, stderr=stderr)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def run(
    *arguments: object, stdin: bytes = b"", stderr: TextIO | None = None
) -> subprocess.CompletedProcess:
    """Run a command; what it writes to standard output is text, or bytes if that is no text."""
    command = ["vqasr", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    before, sys.stdin = (sys.argv, sys.stdin), io.TextIOWrapper(io.BytesIO(stdin))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(stderr or err):
        sys.argv, code = command, 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            sys.argv, sys.stdin = before
    written = []
    for stream in (out, err):
        stream.flush()
        written.append(stream.buffer.getvalue())
    try:
        output = written[0].decode()
    except UnicodeDecodeError:
        output = written[0]
    return subprocess.CompletedProcess(command, code, output, written[1].decode())
