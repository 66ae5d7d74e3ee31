"""Systems by their names, as `vqasr evaluate --systems` takes them."""

from vqasr.adapters.recogniser import Recogniser
from vqasr.codec.modeling import VQCodecModel
from vqasr.entropy.prior import CodePrior
from vqasr.errors import RecogniserError, VqasrError
from vqasr.evaluation.classical import UnavailableError, classical_codec
from vqasr.evaluation.neural import PREFIX as NEURAL
from vqasr.evaluation.neural import RANDOM, NeuralCodec
from vqasr.evaluation.systems import (
    CONTINUOUS,
    KMEANS,
    LOSS,
    AudioSystem,
    CodesSystem,
    CostSystem,
    KMeansSystem,
    System,
    point_of,
)
from vqasr.evaluation.text_floor import TEXT_FLOORS

WITHOUT_CODES = ("pcm", CONTINUOUS)
AUDIO = ":audio"
LOADED = (NEURAL, RANDOM, KMEANS)  # that these exist is seen when they are made


def make_system(
    name: str,
    codec: VQCodecModel,
    recogniser: Recogniser,
    prior: CodePrior | None = None,
    chunk_frames: int | None = None,
    seed: int = 0,
) -> System:
    """The system of that name; "vqasr:N:audio" is decoded to audio, which the recogniser hears.

    Arguments and errors as `CodesSystem`.

    Raises:
        UnavailableError: a codec that is not installed, or a checkpoint that cannot be had here.
        RecogniserError: audio for a recogniser that reads codes only.
    """
    if needs_audio(name) and not recogniser.reads_audio:
        raise RecogniserError(
            f"the system {name!r} is audio, and this recogniser reads codes only. Leave it out, or "
            "use a Whisper (--asr tiny.en)."
        )
    if name == "pcm":
        return AudioSystem(name, recogniser)
    if name.startswith(KMEANS):
        return KMeansSystem(name, recogniser)
    if name.startswith(NEURAL):
        return AudioSystem(name, recogniser, NeuralCodec(name))
    if name.startswith(RANDOM):
        return CostSystem(name, NeuralCodec(name))
    if not name.startswith("vqasr:"):
        return AudioSystem(name, recogniser, classical_codec(name))
    plain, _, loss = name.partition(LOSS)
    codes = CodesSystem(
        plain.removesuffix(AUDIO) + (LOSS + loss if loss else ""), codec, recogniser, prior,
        chunk_frames, seed,
    )  # fmt: skip
    return AudioSystem(name, recogniser, codes.through) if plain.endswith(AUDIO) else codes


def needs_audio(name: str) -> bool:
    """True for systems that give the recogniser audio to hear (or, k-means, its own states)."""
    if name.startswith("vqasr:"):
        return name.partition(LOSS)[0].endswith(AUDIO)
    return name not in TEXT_FLOORS and not name.startswith(RANDOM)


def readable(names: str, recogniser: Recogniser) -> str:
    """Of names by commas those that the recogniser can hear."""
    heard = [n for n in names.split(",") if recogniser.reads_audio or not needs_audio(n)]
    return ",".join(heard)


def expand_systems(names: str, codec: VQCodecModel) -> list[str]:
    """ "pcm,vqasr:all" -> ["pcm", "vqasr:1", ...]; VqasrError for a name that does not exist.

    Codecs that are not installed keep their place: `make_system` says that they are missing.
    """
    expanded: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        if name == "vqasr:all":
            expanded += [f"vqasr:{n + 1}" for n in range(codec.config.num_quantizers)]
        elif name:
            known = name in (*WITHOUT_CODES, *TEXT_FLOORS) or name.startswith(LOADED)
            if not known and not _is_classical(name):
                point_of(name.removesuffix(AUDIO), codec)
            expanded.append(name)
    if not expanded:
        raise VqasrError("no system was named; for instance pcm,vqasr:1,vqasr:4.")
    return list(dict.fromkeys(expanded))


def with_losses(names: list[str], losses_percent: list[float]) -> list[str]:
    """Each "vqasr:..." once for each share of chunks lost; the other systems as they are."""
    for loss in losses_percent:
        if not 0 <= loss <= 100:
            raise VqasrError(f"a loss of {loss} % of the chunks; 0 to 100 are possible.")
    expanded: list[str] = []
    for name in names:
        if name == CONTINUOUS or not name.startswith("vqasr:") or not losses_percent:
            expanded.append(name)
        else:
            expanded += [f"{name}{LOSS}{loss:g}" for loss in losses_percent]
    return expanded


def _is_classical(name: str) -> bool:
    try:
        return classical_codec(name) is not None
    except UnavailableError:
        return True
