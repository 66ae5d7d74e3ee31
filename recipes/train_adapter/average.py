"""Average the weights of an adapter before and after training (WiSE-FT, arXiv 2109.01903).

python recipes/train_adapter/average.py vqasr-base-whisper-tiny.en \
    runs/adapter-tiny.en/adapter-tiny.en --output runs/averaged
"""

import argparse

import torch

from vqasr.adapters import CodesAdapter


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("before", help="adapter that the training started from")
    parser.add_argument("after", help="trained adapter; its speech head is kept as it is")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights, 0 to 1")
    parser.add_argument("--output", required=True, help="folder to write")
    arguments = parser.parse_args()
    before, after = map(CodesAdapter.from_pretrained, (arguments.before, arguments.after))
    if (before.codec_fingerprint, before.base_fingerprint) != (
        after.codec_fingerprint, after.base_fingerprint,
    ):  # fmt: skip
        parser.error("the adapters belong to different codecs or recognisers")
    old, new = before.embedder.state_dict(), after.embedder.state_dict()
    for name, weights in new.items():
        if weights.is_floating_point() and not name.startswith(("speech_head", "quantizer")):
            new[name] = torch.lerp(old[name], weights, arguments.share)
    after.embedder.load_state_dict(new)
    after.metrics = {}
    after.save_pretrained(arguments.output, int8=True)


if __name__ == "__main__":
    main()
