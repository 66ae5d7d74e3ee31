"""Every Python snippet of the README runs, and every file that it names exists."""

import re
import shutil
from pathlib import Path

import pytest

from vqasr.assets import CLIPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.strip().splitlines()[0])
def test_snippet_runs(snippet: str, tmp_path, monkeypatch) -> None:
    shutil.copy(CLIPS / "clip01_af_heart.flac", tmp_path / "talk.wav")  # the reader's own
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 3


def test_commands_exist() -> None:
    from vqasr.cli.commands import app

    known = {command.callback.__name__ for command in app.registered_commands}
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    used = set(re.findall(r"^vqasr (\w+)", shell, re.MULTILINE))
    assert used
    assert used <= known


def test_files_exist() -> None:
    named = re.findall(r"`((?:vqasr|adapters|docs|recipes)/[\w/.]+)`|\]\(([\w/.-]+)\)", README)
    for path in {a or b for a, b in named}:
        assert (ROOT / path).exists(), path
