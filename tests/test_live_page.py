"""The page of recipes/live: a session over its WebSocket, and a browser with a fake microphone."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vqasr.assets import CLIPS

aiohttp = pytest.importorskip("aiohttp")
SERVER = Path(__file__).parents[1] / "recipes" / "live" / "server.py"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EXPECTED = "the"  # a word of the clip that ctc-small spells right
SPOKEN_S = 3


@pytest.fixture(scope="module")
def server():
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-u", str(SERVER), "--port", str(port), "--asr", "ctc-small"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if "Running on" in line:
            break
    yield port, process
    process.kill()
    process.wait()


def finished(process) -> dict:
    """The line that the server prints for a finished session."""
    return json.loads(next(line for line in process.stdout if line.startswith("{")))


def test_a_session(server) -> None:
    port, process = server
    pcm = soundfile.read(CLIPS / "clip01_af_heart.flac", SPOKEN_S * 16_000, dtype="int16")[
        0
    ].tobytes()

    async def speak() -> tuple[list[dict], bytes]:
        async with aiohttp.ClientSession() as client:
            page = await client.get(f"http://127.0.0.1:{port}/")
            assert "<title>vqasr live</title>" in await page.text()
            async with client.ws_connect(f"ws://127.0.0.1:{port}/speak") as line:
                await line.send_json({"rate_hz": 16_000})
                for start in range(0, len(pcm), 8_000):
                    await line.send_bytes(pcm[start : start + 8_000])
                await line.send_str("stop")
                messages = [message.data async for message in line]
        audio = b"".join(data for data in messages if isinstance(data, bytes))
        return [json.loads(data) for data in messages if isinstance(data, str)], audio

    answers, audio = asyncio.run(speak())
    heard = np.frombuffer(audio, "<i2")
    assert abs(len(heard) - len(pcm) // 2) <= 640
    assert np.abs(heard).max() > 1000
    assert answers[-1]["done"]
    assert any(answer["text"] for answer in answers[:-1])  # while the speech goes on
    text = "".join(answer["text"] for answer in answers)
    assert EXPECTED in text
    assert finished(process) == {"text": text, "bytes": answers[-1]["bytes"]}
    assert 200 < 8 * answers[-1]["bytes"] / answers[-1]["seconds"] < 1_000


def test_a_wrong_session(server) -> None:
    port, _ = server

    async def speak(first: str) -> dict:
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"ws://127.0.0.1:{port}/speak") as line,
        ):
            await line.send_str(first)
            return json.loads((await line.receive()).data)

    assert "sampling rate 7" in asyncio.run(speak('{"rate_hz": 7}'))["error"]
    assert asyncio.run(speak("no JSON"))["done"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_with_a_fake_microphone(server, tmp_path) -> None:
    port, process = server
    samples, rate_hz = soundfile.read(CLIPS / "clip01_af_heart.flac", SPOKEN_S * 16_000)
    soundfile.write(tmp_path / "clip.wav", samples, rate_hz)
    browser = subprocess.Popen(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu",
         "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
         f"--use-file-for-fake-audio-capture={tmp_path / 'clip.wav'}%noloop",
         "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path / 'profile'}",
         f"http://127.0.0.1:{port}/?seconds={SPOKEN_S}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        said = finished(process)
    finally:
        browser.kill()
        browser.wait()
    assert EXPECTED in said["text"]
    assert said["bytes"] > 100
