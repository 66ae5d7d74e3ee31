"""Model cards state the numbers that were measured."""

import json

from card import codec_card, prior_card

from vqasr.assets import ASSETS

ROW = {"system": "vqasr:2", "coded_bps": 410.2, "prior_bps": 376.9, "wer": 0.0712}


def test_card_of_a_codec(codec) -> None:
    config = json.loads((ASSETS / "vqasr-base" / "config.json").read_text())
    card = codec_card("vqasr-base", config, codec.fingerprint().hex(), {"test_x": [ROW]})
    assert "8 residual codes of 1024 at 25 Hz" in card
    assert "look-ahead 282.5 ms" in card
    assert "| test_x | vqasr:2 | 410 | 0.0712 | - |" in card
    assert codec.fingerprint().hex() in card


def test_card_of_a_prior(codec) -> None:
    card = prior_card("vqasr-base-prior", codec.fingerprint().hex(), {"test_x": [ROW]})
    assert "| test_x | vqasr:2 | - | - | 377 | 410 |" in card
    assert "None yet" in prior_card("x", "00", {})
