"""Average the weights of a CTC model before and after training (WiSE-FT, arXiv 2109.01903).

python recipes/recognition/average_ctc.py ctc-small runs/ctc-small-codes/final --share 0.6 \
    --out runs/averaged
"""

import argparse

import torch

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.ctc_recogniser import CTCRecogniser


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("before", help="CTC model that the training started from")
    parser.add_argument("after", help="trained model; fit_speech_head.py has to follow")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights, 0 to 1")
    parser.add_argument("--out", required=True, help="folder to write")
    arguments = parser.parse_args()
    before, after = map(CTCRecogniser.from_pretrained, (arguments.before, arguments.after))
    old, new = before.model.state_dict(), after.model.state_dict()
    sizes = {name: (old[name].shape, new[name].shape) for name in old.keys() & new.keys()}
    if old.keys() != new.keys() or any(a != b for a, b in sizes.values()):
        parser.error("the models have different sizes")
    if before.codec_fingerprint != after.codec_fingerprint:
        parser.error("the models read codes of different codecs")
    for name, weights in old.items():
        if weights.is_floating_point():
            old[name] = torch.lerp(weights, new[name], arguments.share)
    before.model.load_state_dict(old)
    before.model.embedder.speech_head.reset_parameters()  # its features have changed
    before.model.save_int8(arguments.out)
    before.tokenizer.save_pretrained(arguments.out)
    CodesFeatureExtractor().save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
