"""The documentation builds without warnings, its snippets run, and the files it names exist."""

import re
import shutil
from pathlib import Path

import pytest

from vqasr.assets import CLIPS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "guide.md"]
ALL_PAGES = [
    page
    for pattern in ("*.md", "docs/*.md", "recipes/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if page.name != "lab-book.md"  # names files of its time
]
TEXT = "\n".join(page.read_text() for page in PAGES)
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.strip().splitlines()[0])
def test_snippet_runs(snippet: str, tmp_path, monkeypatch) -> None:
    shutil.copy(CLIPS / "clip01_af_heart.flac", tmp_path / "talk.wav")  # the reader's own
    monkeypatch.chdir(tmp_path)
    if "transformers import" in snippet:  # which fails beside a CPU-only torch before vqasr
        assert snippet.index("vqasr") < snippet.index("transformers import")
    exec(compile(snippet, "snippet", "exec"), {})


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 6


def test_commands_exist() -> None:
    from vqasr.cli.commands import app

    known = {command.callback.__name__ for command in app.registered_commands}
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
    used = set(re.findall(r"^vqasr (\w+)", shell, re.MULTILINE))
    assert used
    assert used <= known


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:vqasr|adapters|docs|recipes|tests)/[\w/.]+)`|\]\(([\w/.-]+)\)", page.read_text()
    )
    for in_code, linked in named:
        assert (ROOT / in_code).exists() if in_code else (page.parent / linked).exists()


def test_readme_is_short() -> None:
    assert len(PAGES[0].read_text().splitlines()) <= 110


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_site_builds(tmp_path: Path, capsys) -> None:
    """As `make docs`, in a process that has imported what it documents."""
    from sphinx.cmd.build import main

    code = main(["-W", "--keep-going", "-q", str(ROOT / "docs"), str(tmp_path)])
    assert code == 0, capsys.readouterr().err
    page = re.sub("<.*?>", "", (tmp_path / "cli.html").read_text())
    assert "vqasr transcribe" in page
    assert "num_quantizers" in (tmp_path / "api.html").read_text()
