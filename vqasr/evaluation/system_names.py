"""Make systems by their names, as `vqasr evaluate --systems` takes them."""

from collections.abc import Sequence

from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.recogniser import Recogniser
from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.vocoder import Vocoder
from vqasr.entropy.prior import CodePrior
from vqasr.errors import RecogniserError, VqasrError
from vqasr.evaluation.classical import UnavailableError, classical_codec
from vqasr.evaluation.neural import PREFIX as NEURAL
from vqasr.evaluation.neural import RANDOM, NeuralCodec
from vqasr.evaluation.packet_loss import ChunkLoss
from vqasr.evaluation.systems import (
    CONTINUOUS,
    GREEDY,
    KMEANS,
    LOSS,
    PITCH,
    AudioSystem,
    CodesSystem,
    KMeansSystem,
    System,
    point_of,
)
from vqasr.evaluation.text_floor import TEXT_FLOORS

AUDIO = ":audio"
FIXED = ("pcm", CONTINUOUS, *TEXT_FLOORS)
LOADED = (NEURAL, RANDOM, KMEANS)  # checked when they are loaded


def make_system(
    name: str,
    codec: VQCodecModel,
    recogniser: Recogniser,
    prior: CodePrior | None = None,
    chunk_frames: int | None = None,
    seed: int = 0,
    vocoder: str | Vocoder | None = None,
) -> System:
    """Return the system of that name; for arguments and further errors see `CodesSystem`.

    With the suffix ":audio", codes (or latents) are decoded and the recogniser reads the decoded
    audio.

    Raises:
        UnavailableError: the codec is not installed, or the checkpoint cannot be loaded.
        RecogniserError: the system makes audio, and the recogniser reads only codes.
    """
    if needs_audio(name) and not recogniser.reads_audio:
        raise RecogniserError(
            f"the system {name!r} makes audio, but this recogniser reads only codes. Leave the "
            "system out, or use a Whisper (--asr tiny.en)."
        )
    if name == "pcm":
        return AudioSystem(name, recogniser, None, codec)
    if name.startswith(KMEANS):
        return KMeansSystem(name, recogniser)
    if name.startswith(NEURAL):
        return AudioSystem(name, recogniser, NeuralCodec(name), codec)
    if name.startswith(RANDOM):
        return AudioSystem(name, None, NeuralCodec(name))
    if not name.startswith("vqasr:"):
        return AudioSystem(name, recogniser, classical_codec(name), codec)
    plain, separator, loss = name.partition(LOSS)
    codes = CodesSystem(
        plain.removesuffix(AUDIO) + separator + loss, codec, recogniser, prior, chunk_frames, seed,
        vocoder,
    )  # fmt: skip
    if plain.endswith(AUDIO):
        codes.check_vocoder()
        return AudioSystem(name, recogniser, codes.round_trip, codec)
    return codes


def needs_audio(name: str) -> bool:
    """Return whether a system's recogniser reads audio (or, for k-means, its own states)."""
    if name.startswith("vqasr:"):
        return name.partition(LOSS)[0].endswith(AUDIO)
    return name not in TEXT_FLOORS and not name.startswith(RANDOM)


def supported_systems(names: str, recogniser: Recogniser) -> str:
    """Keep the names, separated by commas, of the systems that work with this recogniser."""
    return ",".join(n for n in names.split(",") if recogniser.reads_audio or not needs_audio(n))


def expand_systems(names: str, codec: VQCodecModel) -> list[str]:
    """Split and check names: "pcm,vqasr:all" -> ["pcm", "vqasr:1", ...].

    Codecs that are not installed are kept; `make_system` raises for them.

    Raises:
        VqasrError: a name is unknown, or there is none.
    """
    expanded: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        if name == "vqasr:all":
            expanded += [f"vqasr:{n + 1}" for n in range(codec.config.num_quantizers)]
        elif name:
            plain = name.removesuffix(AUDIO) if name.startswith("vqasr:") else name
            if name.endswith(AUDIO) or plain != CONTINUOUS + PITCH:
                plain = plain.removesuffix(PITCH)
            if plain not in FIXED and not name.startswith(LOADED) and not _is_classical(name):
                point_of(plain, codec)
            expanded.append(name)
    if not expanded:
        raise VqasrError("no system was named. Name some, as in pcm,vqasr:1,vqasr:4.")
    return list(dict.fromkeys(expanded))


def with_greedy(names: list[str], recogniser: Recogniser) -> list[str]:
    """Add "vqasr:...+greedy" after each "vqasr:..." if the recogniser has a language model."""
    if not (isinstance(recogniser, CTCRecogniser) and recogniser.search):
        return names
    twice = ((name, name + GREEDY) if name.startswith("vqasr:") else (name,) for name in names)
    return [name for pair in twice for name in pair]


def with_losses(names: list[str], losses: Sequence[float | str]) -> list[str]:
    """Repeat each "vqasr:..." for each loss of chunks; keep other systems as they are.

    Args:
        names: of systems.
        losses: percentages, or strings as `ChunkLoss.parse` takes them.

    Raises:
        VqasrError: a loss is out of range.
    """
    parsed = [
        ChunkLoss.parse(f"{loss:g}" if not isinstance(loss, str) else loss) for loss in losses
    ]
    expanded: list[str] = []
    for name in names:
        if name.startswith(CONTINUOUS) or not name.startswith("vqasr:") or not parsed:
            expanded.append(name)
        else:
            expanded += [f"{name}{LOSS}{loss}" for loss in parsed]
    return expanded


def _is_classical(name: str) -> bool:
    try:
        return classical_codec(name) is not None
    except UnavailableError:
        return True
