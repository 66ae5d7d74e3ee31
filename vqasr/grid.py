"""Constants of the time grid of audio, codes and embeddings, and the reserved code values.

Streams can hold codes of other hop lengths; everything else in vqasr is on this grid.
"""

SAMPLING_RATE_HZ = 16_000
HOP_LENGTH = 640  # samples of a frame
FRAME_S = HOP_LENGTH / SAMPLING_RATE_HZ  # 0.04
FRAME_RATE_HZ = SAMPLING_RATE_HZ // HOP_LENGTH  # 25
FINE_HOP_LENGTH = 160  # samples, 10 ms: of Whisper's log-mel, pitch tracks, the vocoder's STFT
HOPS_PER_FRAME = HOP_LENGTH // FINE_HOP_LENGTH
WINDOW_S = 30  # length of Whisper's input
WINDOW_SAMPLES = WINDOW_S * SAMPLING_RATE_HZ
WINDOW_FRAMES = WINDOW_S * FRAME_RATE_HZ  # 750

# Codes of a frame's fundamental frequency: c > 0 is 60 Hz x 2^((c - 1) / 24), at most 494 Hz; 0 is
# unvoiced.
LOWEST_PITCH_HZ = 60.0
PITCH_STEPS = 24
PITCH_CODES = 75
UNVOICED = 0

STOP = 0  # in any codebook but the first, with variable depth: the frame uses no further codebook
NO_FRAME = -1  # padding of a batch
MISSING = -2  # a lost frame


def frames_of(samples: int, hop_length: int = HOP_LENGTH) -> int:
    """Return the number of frames of a clip: ceil(samples / hop_length)."""
    return -(-samples // hop_length)
