"""`make assets`: each training begins where one before it ended, and what they made ships."""

import re
from pathlib import Path

import pytest

from vqasr.training.config import load_train_config

ROOT = Path(__file__).parents[1]


def test_each_run_begins_where_another_ended(monkeypatch) -> None:
    if not (ROOT / "Makefile").exists():
        pytest.skip("not a checkout")
    monkeypatch.chdir(ROOT)
    lines = (ROOT / "Makefile").read_text().partition("\nassets:")[2].partition("\n\n")[0]
    made: list[str] = []
    shipped: list[str] = []
    for line in lines.splitlines():
        if train := re.search(r"vqasr train (\S+)", line):
            config = load_train_config(train[1])
            if config.frozen_codec:
                assert config.frozen_codec == f"{made[-1]}/codec"
                assert config.start_from == f"{made[-1]}/adapter"
            else:
                assert config.start_from in (made or [""]), train[1]
                assert config.frozen_prior in ("", f"{config.start_from}/prior")
            made.append(config.output_dir)
        elif step := re.search(r"recipes/train_codec/\S+\.py (\S+) (\S+)", line):
            assert step[1] in made
            made.append(step[2])
        elif gathered := re.search(r"cp -r (.+) (runs/\S+)$", line):
            assert all(str(Path(part).parent) in made for part in gathered[1].split())
            parts = sorted(Path(part).name for part in gathered[1].split())
            assert parts == ["adapter", "codec", "prior"]
            made.append(gathered[2])
        elif copied := re.search(r"cp -r (\S+)/\w+ vqasr/assets", line):
            shipped.append(copied[1])
    assert len(made) > 1
    # Codec, prior and adapter, then what reads their codes.
    assert shipped == [made[-1], made[-1], made[-1], "runs/ctc-small"]
