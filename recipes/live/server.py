"""Speak into a browser: text while you speak, and what it costs.

python recipes/live/server.py                 # then open http://localhost:8000
python recipes/live/server.py --asr ctc-small --bps 300

The page sends the microphone's samples; the server encodes them, reads the codes and sends back
text, bytes and the decoded audio.
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from vqasr import LiveEncoder, StreamWriter, load_codec
from vqasr.adapters import load_recogniser
from vqasr.adapters.agreement import AgreementStream
from vqasr.audio.arrays import to_pcm
from vqasr.audio.pitch_tracker import LivePitch
from vqasr.audio.resampling import LiveResampler, check_rate
from vqasr.codec.vocoder import load_vocoder
from vqasr.compression.compress import LiveDecoder, stream_header
from vqasr.entropy.bundled import bundled_prior
from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ

PAGE = Path(__file__).with_name("page.html")
PCM_SCALE = 32768.0


class Models:
    """What all sessions share."""

    def __init__(self, arguments: argparse.Namespace):
        self.codec = load_codec("vqasr-base")
        self.recogniser = load_recogniser(arguments.asr)
        self.prior = bundled_prior(self.codec.fingerprint())
        self.bps, self.chunk_frames = arguments.bps, arguments.chunk_frames
        self.vocoder = load_vocoder(arguments.vocoder, self.codec.fingerprint())
        self.sent = open(os.devnull, "wb")  # noqa: SIM115 (bytes are only counted)


MODELS = web.AppKey("models", Models)


class Session:
    """One speaker: samples in, text and decoded audio out."""

    def __init__(self, models: Models, rate_hz: int):
        self._resampler = LiveResampler(check_rate(rate_hz, "microphone"), SAMPLING_RATE_HZ)
        self._encoder = LiveEncoder(models.codec, bps=models.bps, prior=models.prior)
        n = self._encoder.num_quantizers
        header = stream_header(models.codec, n, models.chunk_frames, pitch=True)
        self._pitch = LivePitch()
        self._writer = StreamWriter(models.sent, header, models.prior)
        self._text = AgreementStream(models.recogniser)
        vocoder = models.vocoder
        self._decoder = None if vocoder is None else LiveDecoder(models.codec, vocoder)

    def push(self, pcm: bytes) -> tuple[dict[str, Any], bytes]:
        """Take 16-bit samples; return facts for the page, and 16-bit decoded audio."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / PCM_SCALE
        resampled = self._resampler.push(samples)
        codes = self._encoder.push(resampled)
        return self._take(codes, self._pitch.push(resampled, codes.shape[1]))

    def finish(self) -> tuple[dict[str, Any], bytes]:
        """End the speech; return the last facts and audio."""
        samples = self._resampler.finish()
        codes = self._encoder.push(samples)
        pitch = self._pitch.push(samples, codes.shape[1])
        codes = np.concatenate([codes, self._encoder.finish()], axis=1)
        facts, audio = self._take(codes, np.concatenate([pitch, self._pitch.finish()]))
        facts["text"] += self._text.finish()
        if self._decoder is not None:
            audio += to_pcm(self._decoder.finish())
        return facts | {"done": True}, audio

    def _take(self, codes: np.ndarray, pitch: np.ndarray) -> tuple[dict[str, Any], bytes]:
        self._writer.write(codes, pitch)
        audio = b"" if self._decoder is None else to_pcm(self._decoder.push(codes, pitch))
        facts = {
            "text": self._text.push(codes),
            "bytes": self._writer.bits_written // 8,
            "seconds": self._encoder.samples / SAMPLING_RATE_HZ,
        }
        return facts, audio


async def speak(request: web.Request) -> web.WebSocketResponse:
    """Serve one session: {"rate_hz"}, samples, ..., "stop"."""
    line = web.WebSocketResponse()
    await line.prepare(request)
    models, session, text = request.app[MODELS], None, ""
    async for message in line:
        try:
            if session is None:
                session = Session(models, json.loads(message.data)["rate_hz"])
                continue
            # In a thread: other sessions go on.
            if message.type == WSMsgType.BINARY:
                facts, audio = await asyncio.to_thread(session.push, message.data)
            else:
                facts, audio = await asyncio.to_thread(session.finish)
        except (VqasrError, ValueError, KeyError, TypeError) as error:
            await line.send_json({"error": str(error), "done": True})
            break
        text += facts["text"]
        await line.send_json(facts)
        if audio:
            await line.send_bytes(audio)
        if facts.get("done"):
            print(json.dumps({"text": text, "bytes": facts["bytes"]}), flush=True)
            break
    await line.close()
    return line


async def page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--asr", default="tiny.en", help="as for vqasr transcribe")
    parser.add_argument("--bps", type=float, default=420.0, help="rate of the codes")
    parser.add_argument("--chunk-frames", type=int, default=15, help="of a packet, 40 ms each")
    parser.add_argument(
        "--vocoder", help="folder of another vocoder than the bundled one; griffin-lim for none"
    )
    arguments = parser.parse_args()
    app = web.Application()
    app[MODELS] = Models(arguments)
    app.add_routes([web.get("/", page), web.get("/speak", speak)])
    web.run_app(app, host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
