"""report.html in a browser: it draws, sorts, plays, and logs no errors."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vqasr.evaluation.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Runs in the page: collects errors, sorts by rate, loads all audio, and writes the observations.
WATCH = """<script>
window.problems = [];
window.addEventListener("error", (e) => problems.push(String(e.message)), true);
const complain = console.error;
console.error = (...a) => { problems.push(a.join(" ")); complain(...a); };
</script>"""
TRY = """<script>
const lines = () => [...document.querySelectorAll("#systems tbody tr")];
const column = () => lines().map((line) => line.cells[0].textContent);
const before = column();
document.querySelectorAll("#systems th button")[1].click();
const rising = column();
document.querySelectorAll("#systems th button")[1].click();
const falling = column();
const players = [...document.querySelectorAll("audio")];
const loaded = players.map((player) => new Promise((resolve) => {
  player.addEventListener("loadedmetadata", () => resolve(player.duration));
  player.addEventListener("error", () => resolve(-1));
  player.preload = "auto";
  player.load();
}));
Promise.all(loaded).then(async (durations) => {
  const plays = await players[0].play().then(() => !players[0].paused, (e) => String(e));
  const verdict = document.createElement("pre");
  verdict.id = "verdict";
  verdict.textContent = JSON.stringify({
    before, rising, falling, durations, problems, plays,
    floors: document.querySelectorAll("#curve .floor").length,
    points: document.querySelectorAll("#curve .point").length,
    wrong: document.querySelectorAll("#texts .sub").length,
    title: document.querySelector("h1").textContent,
    notes: [...document.querySelectorAll("#systems ~ .note")].map((note) => note.textContent),
    ratios: [...document.querySelectorAll("#ratios tr")].map((line) => line.textContent),
  });
  document.body.append(verdict);
});
</script>"""


def row(system: str, bps: float, delta: float) -> dict:
    return {
        "system": system, "coded_bps": bps, "wer": 0.05 + delta, "delta_wer": delta,
        "delta_wer_ci95": [delta - 0.01, delta + 0.01], "substitutions": 3, "deletions": 1,
        "insertions": 0, "hallucinations": 0, "encode_rtf": None, "asr_rtf": 0.1,
    }  # fmt: skip


@pytest.fixture
def page(tmp_path, clips) -> Path:
    rows = [row("pcm", 256_000.0, 0.0), row("vqasr:2", 435.0, 0.04), row("vqasr:1", 228.0, 0.12)]
    rows.append(row("text", 100.0, -0.05) | {"asr_rtf": None, "encode_rtf": None})
    texts = [clip.text for clip in clips[:2]]
    wrong = [text.replace("the", "a</script>") for text in texts]
    sounds = {"pcm": [clip.samples for clip in clips[:2]], "vqasr:1": []}
    path = tmp_path / "report.html"
    ratios = [
        {"family": "opus", "rate_ratio": 12.345, "rate_ratio_ci95": [9.0, 15.0]},
        {"family": "g722", "rate_ratio": None, "rate_ratio_ci95": None},
    ]
    hypotheses = [texts, wrong, wrong, texts]
    skipped = {"codec2:1300": "c2enc is not <installed>"}
    title = "tiny.en on <these> clips"
    write_report(path, title, rows, ratios, texts, hypotheses, sounds, skipped)
    return path


def test_the_page_is_self_contained(page) -> None:
    text = page.read_text()
    assert not re.search(r"<!--[A-Z]+-->", text)
    assert not re.search(r"""(src|href)=["']?http""", text)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["title"] == "tiny.en on <these> clips"


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_in_a_browser(page, clips, tmp_path) -> None:
    text = page.read_text().replace("<head>", f"<head>{WATCH}", 1)
    page.write_text(text.replace("</body>", f"{TRY}</body>"))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--autoplay-policy=no-user-gesture-required",
         f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    match = re.search(r'<pre id="verdict">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    verdict = json.loads(html.unescape(match[1]))
    assert verdict["problems"] == []
    assert verdict["title"] == "tiny.en on <these> clips"
    assert verdict["before"] == ["pcm", "vqasr:2", "vqasr:1", "text"]
    assert verdict["rising"] == ["text", "vqasr:1", "vqasr:2", "pcm"]
    assert verdict["notes"] == ["Left out: c2enc is not <installed>"]
    assert verdict["falling"] == verdict["rising"][::-1]
    assert verdict["plays"] is True
    assert verdict["points"] == 3
    assert verdict["floors"] == 1
    assert verdict["ratios"] == ["opus12.39.00 to 15.0", "g722the curves do not meet-"]
    assert verdict["wrong"] > 0
    for duration, clip in zip(verdict["durations"], clips[:2], strict=True):
        assert duration == pytest.approx(len(clip.samples) / 16_000, abs=0.05)
