"""Define the entry point `vqasr`, and the commands encode, decode and demo."""

import io
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich.markup import escape
from typer import Argument, Option

from vqasr.cli import devices, experiments, network, options, streams, tokenize, transcribe  # noqa: F401 (registers)
from vqasr.cli.inputs import (
    AUDIO,
    STANDARD,
    STREAMS,
    expand_lists,
    find_inputs,
    open_stream,
    output_paths,
    read_input,
    standard_input,
)
from vqasr.cli.options import (
    app,
    audio_warnings,
    check_not_empty,
    chunk_frames,
    err,
    error_context,
    example,
    load_prior,
    loading,
    out,
    print_error,
    print_notes,
    process_files,
    set_threads,
    shown,
    without_existing,
)
from vqasr.cli.outputs import check_outputs, write_output
from vqasr.errors import VqasrError
from vqasr.files import is_pipe


@app.command(
    epilog=example(
        "vqasr encode talk.wav -o talk.vqs",
        "vqasr encode *.flac -o streams/ --num-quantizers 4",
        "vqasr encode talk.wav -o talk.vqs --bps 300",
        "vqasr encode @list.txt -o streams/ --skip-existing",
        "vqasr encode talk.wav -o talk.vqs -n 4 --pitch",
        "arecord -f S16_LE -r 16000 | vqasr encode - -o - --bps 400 > talk.vqs",
        "ffmpeg -i URL -f s16le -ac 1 -ar 16000 - | vqasr encode - -o - --pcm-hz 16000 | ...",
    )
)
def encode(
    audio: Annotated[
        list[str],
        Argument(
            help="Audio files (WAV, FLAC, Ogg/Opus, MP3; more with the extra formats), - for "
            "standard input, folders, patterns, or @list.txt."
        ),
    ],
    output: Annotated[
        Path, Option("-o", "--output", help="A .vqs file, - for standard output, or a folder.")
    ],
    num_quantizers: options.NumQuantizers = None,
    bps: options.Bps = None,
    codec: options.Codec = "vqasr-base",
    prior: options.Prior = None,
    chunk_s: options.ChunkS = None,
    pitch: options.Pitch = False,
    pcm_hz: options.PcmHz = None,
    skip_existing: options.SkipExisting = False,
    force: options.Force = False,
    threads: options.Threads = 0,
) -> None:
    """Encode audio files to .vqs streams.

    From standard input to standard output (- -o -), WAV, AU and raw samples are encoded while they
    come in, in chunks of 0.2 s (--chunk-s), until they end or Ctrl-C. Short chunks cost bits; for
    an archive write to a file.
    """
    audio = expand_lists(audio)
    paths = find_inputs(audio, AUDIO)
    targets = _targets(audio, paths, output, force, ".vqs")
    frames = chunk_frames(chunk_s)
    if pcm_hz is not None and paths != [Path(STANDARD)]:
        raise VqasrError("--pcm-hz is for raw samples on standard input: give - alone.")
    from vqasr.compression.rates import check_rate, operating_point

    check_rate(codec, num_quantizers, bps)
    if skip_existing:
        paths = without_existing(paths, targets)
        if not paths:
            return

    from vqasr.audio.files import read_audio
    from vqasr.audio.live import LiveAudio
    from vqasr.cli.live import encode_live, read_pcm
    from vqasr.compression.compress import compress, load_codec
    from vqasr.stream.header import is_stream

    set_threads(threads)
    with loading():
        model = load_codec(codec)
    point = operating_point(model.config, num_quantizers=num_quantizers, bps=bps)
    loaded_prior = load_prior(prior)
    if paths == [Path(STANDARD)] and str(output) == STANDARD:
        audio_in = LiveAudio(standard_input(), pcm_hz, first_piece=model.config.first_piece)
        encode_live(
            audio_in, sys.stdout.buffer, model, point, frames, loaded_prior, pitch, STANDARD
        )
        return

    def encode_file(path: Path) -> None:
        target = targets[path]
        with audio_warnings():
            if pcm_hz is None:
                data = read_input(path)
                if is_stream(data[:4]):
                    raise VqasrError(f"{path} is a stream already: see `vqasr trim` and `decode`.")
                samples = read_audio(data, name=str(path))
            else:
                samples = read_pcm(pcm_hz)
        stream = compress(
            samples, codec=model, num_quantizers=num_quantizers, bps=bps, chunk_frames=frames,
            prior=loaded_prior, pitch=pitch,
        )  # fmt: skip
        data = stream.to_bytes()
        write_output(target, data)
        rate = 8 * len(data) / stream.seconds
        err.print(f"{shown(target)}: {len(data)} bytes, {rate:.0f} bps", highlight=False)

    failed = process_files(paths, "encoding", encode_file)
    if failed:
        raise VqasrError(f"{failed} of {len(paths)} files could not be encoded; see above.")


@app.command(
    epilog=example(
        "vqasr decode talk.vqs -o talk.wav",
        "vqasr decode streams/ -o audio/ --skip-existing",
        "vqasr decode meeting.vqs -o minute.wav --start-s 600 --end-s 660",
        "vqasr encode - -o - | vqasr decode - -o - | aplay",
    )
)
def decode(
    names: Annotated[
        list[str],
        Argument(metavar="streams...", help="Streams: files, -, folders, patterns, or @list.txt."),
    ],
    output: Annotated[
        Path,
        Option(
            "-o",
            "--output",
            help="A .wav or .flac file, 16 kHz mono; - for standard output; or a folder, for WAV.",
        ),
    ],
    vocoder: options.Vocoder = None,
    codec: options.Codec = "vqasr-base",
    prior: options.Prior = None,
    start_s: options.StartS = 0.0,
    end_s: options.EndS = None,
    partial: options.Partial = False,
    skip_existing: options.SkipExisting = False,
    force: options.Force = False,
    threads: options.Threads = 0,
) -> None:
    """Decode streams to audio.

    A trained vocoder decodes from standard input to standard output (- -o -) while the codes come
    in, and guesses lost frames.
    """
    names = expand_lists(names)
    paths = find_inputs(names, STREAMS)
    suffix = ".flac" if output.suffix.lower() == ".flac" else ".wav"
    targets = _targets(names, paths, output, force, suffix)
    if skip_existing:
        paths = without_existing(paths, targets)
        if not paths:
            return

    import numpy as np
    import soundfile

    from vqasr.cli.live import decode_live, write_live
    from vqasr.codec.vocoder import GRIFFIN_LIM
    from vqasr.compression.compress import LiveDecoder, load_codec
    from vqasr.compression.compress import decode as decode_stream
    from vqasr.grid import SAMPLING_RATE_HZ
    from vqasr.stream.stream import Stream

    loaded_prior = load_prior(prior)
    set_threads(threads)
    with loading():
        model = load_codec(codec)
    whole = start_s == 0 and end_s is None
    live = paths == [Path(STANDARD)] and str(output) == STANDARD and whole
    if live and str(vocoder) != GRIFFIN_LIM:
        with error_context(Path(STANDARD)):
            decoder = LiveDecoder(model, vocoder)
            with open_stream(Path(STANDARD)) as source:
                write_live(decode_live(source, model, decoder, loaded_prior, partial))
        return

    def decode_file(path: Path) -> None:
        content = Stream.load(
            read_input(path), prior=loaded_prior, start_s=start_s, end_s=end_s, partial=partial
        )
        if not whole:
            check_not_empty(content, start_s, end_s)
        print_notes(path, content)
        samples = np.clip(decode_stream(content, codec=model, vocoder=vocoder), -1.0, 1.0)
        file = io.BytesIO()
        soundfile.write(file, samples, SAMPLING_RATE_HZ, subtype="PCM_16", format=suffix[1:])
        write_output(targets[path], file.getvalue())
        seconds = len(samples) / SAMPLING_RATE_HZ
        err.print(f"{shown(targets[path])}: {seconds:.1f} s", highlight=False)

    failed = process_files(paths, "decoding", decode_file)
    if failed:
        raise VqasrError(f"{failed} of {len(paths)} streams could not be decoded; see above.")


@app.command(epilog=example("vqasr demo", "vqasr demo my_recording.wav", "vqasr demo --json"))
def demo(
    audio: Annotated[
        Path | None, Argument(help="Your own recording, instead of the bundled clips.")
    ] = None,
    as_json: options.AsJson = False,
    threads: options.Threads = 0,
) -> None:
    """Show bitrate and WER on the bundled clips.

    The reference of your own recording is its transcript without compression.
    """
    from vqasr.adapters.ctc_recogniser import CTCRecogniser
    from vqasr.adapters.whisper_recogniser import WhisperRecogniser
    from vqasr.audio.files import read_audio
    from vqasr.cli.demo import Clip, bundled_clips, demo_clip, summary
    from vqasr.compression.compress import load_codec

    set_threads(threads)
    model = load_codec("vqasr-base")
    if audio is None:
        clips = bundled_clips()
    else:
        with audio_warnings():
            clips = [Clip(audio.name, read_audio(read_input(audio), name=str(audio)), None)]
    with loading():
        whisper = WhisperRecogniser.from_pretrained()
        ctc = CTCRecogniser.from_pretrained("ctc-small")
    lines = []
    for clip in clips:
        if not as_json:
            out.print(
                f"[bold]{shown(clip.name)}[/bold]  {escape(clip.text or '')}", highlight=False
            )
        for line in demo_clip(clip, model, whisper, ctc):
            lines.append(line)
            # Of the bundled clips, the letters of the small recogniser are in the sums alone.
            if not as_json and not (audio is None and "ctc" in line.system):
                wer = "-" if line.wer is None else f"{line.wer:.3f}"
                out.print(
                    f"  {line.system:13} {line.bytes:7} bytes {line.coded_bps:7.0f} bps  "
                    f"WER {wer}  {escape(line.text)}",
                    highlight=False,
                )
    if as_json:
        print(json.dumps([asdict(line) for line in lines]))
        return
    heading = f"All {len(clips)} clips" if audio is None else "In all"
    out.print(f"[bold]{heading}[/bold] (Whisper tiny.en, where no recogniser is named)")
    for text in summary(lines):
        out.print(f"  {text}", highlight=False)
    if audio is None:
        out.print(
            "Ten sentences: a few words more or less are chance. Measured results: "
            "docs/results.md. Next: vqasr encode --help"
        )


def _targets(
    names: list[str], paths: list[Path], output: Path, force: bool, suffix: str
) -> dict[Path, Path]:
    """Name the output of each input; refuse to destroy a file before any work."""
    one = str(output) == STANDARD or (output.suffix and not output.is_dir())
    if one and len(paths) > 1:
        raise VqasrError(f"{output} is one file for {len(paths)} inputs: give -o DIR.")
    if one or (is_pipe(output) and len(paths) == 1):
        targets = {paths[0]: output}
    else:
        targets = output_paths(paths, output, suffix, names)
    check_outputs(targets.values(), paths, suffix, force)
    return targets


def main() -> None:
    """Run the command line; errors are printed in one line, without a traceback."""
    try:
        app()
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(130)
    except BrokenPipeError:  # as in `vqasr transcribe talks/ | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)
    except Exception as error:
        print_error(error)
        sys.exit(1)
