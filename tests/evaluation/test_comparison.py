"""Compare the rates of families of systems at equal word error rate."""

import pytest

from vqasr.evaluation.comparison import compare_rates, family, ratios_table

TEXTS = [f"word{i} tree house river stone" for i in range(60)]


def hypotheses(wrong: int) -> list[str]:
    """Replace that number of all 300 words, spread evenly."""
    words = [text.split() for text in TEXTS]
    for k in range(wrong):
        i = k * 300 // max(1, wrong)
        words[i // 5][i % 5] = "nothing"
    return [" ".join(text) for text in words]


def rows(points: dict[str, tuple[float, int]]) -> tuple[list[dict], list[list[str]]]:
    return [
        {"system": name, "coded_bps": bps, "wer": wrong / 300}
        for name, (bps, wrong) in points.items()
    ], [hypotheses(wrong) for _, wrong in points.values()]


OURS = {"vqasr:1": (250.0, 60), "vqasr:2": (500.0, 30), "vqasr:4": (1000.0, 15)}


def test_families() -> None:
    assert [family(name) for name in ("vqasr:300bps", "vqasr:4:audio", "opus:6000", "g722")] == [
        "vqasr", "vqasr, decoded", "opus", "g722",
    ]  # fmt: skip


def test_a_codec_that_needs_ten_times_the_bits() -> None:
    points = {"pcm": (256_000.0, 0), "text": (90.0, 0)} | OURS
    points |= {"vqasr:4+loss5": (1000.0, 90)}
    points |= {f"opus:{bps:.0f}": (10 * bps, wrong) for bps, wrong in OURS.values()}
    (row,) = compare_rates(*rows(points)[:1], TEXTS, rows(points)[1], None)
    assert row["family"] == "opus"
    assert row["rate_ratio"] == pytest.approx(10, rel=1e-3)
    low, high = row["rate_ratio_ci95"]
    assert low <= 10 <= high
    assert "| opus | 10 |" in ratios_table([row])


def test_curves_that_do_not_meet_and_points() -> None:
    points = OURS | {"mp3:8000": (8000.0, 200), "mp3:16000": (16_000.0, 100), "g722": (64e3, 20)}
    measured, texts = rows(points)
    ratios = {r["family"]: r for r in compare_rates(measured, TEXTS, texts, None)}
    assert set(ratios) == {"mp3", "g722"}
    assert all(r["rate_ratio"] is None and r["rate_ratio_ci95"] is None for r in ratios.values())
    assert ratios_table([*ratios.values()]).count("do not meet") == 2


def test_nothing_to_compare() -> None:
    alone, texts = rows({"pcm": (256_000.0, 0), **OURS})
    assert compare_rates(alone, TEXTS, texts, None) == []
    others, texts = rows({"opus:6000": (6000.0, 10)})
    assert compare_rates(others, TEXTS, texts, None) == []
    silent = [{"system": "vqasr:1", "coded_bps": 200.0, "wer": None}]
    assert compare_rates(silent, ["", ""], [["", "a"]], None) == []
    assert ratios_table([]) == ""
