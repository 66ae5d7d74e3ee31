"""Laws of the training's parts: data, augmentation, latents, losses, transcripts."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from training_helpers import training_data

from vqasr import VQCodecModel
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.whisper import VQWhisperForConditionalGeneration, to_features
from vqasr.codec.convolution import depthwise_by_conv1d, depthwise_by_shifts
from vqasr.data.speech import data_fingerprint, load_speech
from vqasr.errors import TrainingError
from vqasr.training.augment import NONE, SYNTHETIC, Augment, is_held_out
from vqasr.training.batches import WIDTHS_S, Batch, Batches, lost_frames
from vqasr.training.checkpoint import RunFolder, StepLog
from vqasr.training.config import (
    NO_CHANGE,
    AugmentConfig,
    DataConfig,
    RecogniserConfig,
    TrainConfig,
)
from vqasr.training.losses import OUTER_SHARE, RecogniserLoss, decoder_losses, scale_penalty
from vqasr.training.prior_data import training_codes
from vqasr.training.recordings import Recordings
from vqasr.training.rotation import rotate_latents
from vqasr.training.speech_head import speech_frames
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.texts import LETTERS, LetterTable, TokenTable, as_whisper_writes
from vqasr.training.transcripts import transcribe_missing

CPU = torch.device("cpu")
ALWAYS = AugmentConfig(**dict.fromkeys(AugmentConfig.model_fields, 1.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return training_data(tmp_path_factory.mktemp("parts"), whole=True)


@pytest.fixture(scope="module")
def speech(folder) -> Recordings:
    return Recordings.from_rows(load_speech(folder / "speech.parquet"), CPU, 16.0, "text")


def batches(
    folder: Path, speech: Recordings, seed: int = 0, chance: AugmentConfig = ALWAYS,
    piece_s: float = 13.0,
) -> Batches:  # fmt: skip
    config = TrainConfig(
        output_dir="", data=DataConfig(train=["a"], dev=["b"], batch_s=13.0), seed=seed,
        augment=chance,
    )  # fmt: skip
    augment = Augment(load_speech(folder / "noise.parquet"), CPU)
    return Batches(speech, augment, config, piece_s)


def test_recordings_are_the_files(speech, clips) -> None:
    assert len(speech) == len(clips)
    for i, clip in enumerate(clips):
        assert speech.texts[i] == clip.text
        np.testing.assert_allclose(speech.samples(i), clip.samples, atol=1 / 32768)
    assert speech.lengths.sum() / 16_000 == pytest.approx(
        sum(len(c.samples) for c in clips) / 16_000
    )


def test_long_recordings_are_cropped_and_lose_their_text(folder) -> None:
    short = Recordings.from_rows(load_speech(folder / "speech.parquet"), CPU, 4.0, "text")
    assert short.cropped.any()
    assert not short.cropped.all()
    assert short.lengths.max() == 64_000
    assert [bool(t) for t in short.texts] == [not c for c in short.cropped]


def test_batches_of_a_seed_are_the_same(folder, speech) -> None:
    first, again, other = (batches(folder, speech, seed) for seed in (0, 0, 1))
    for step in (0, 7):
        for a, b in zip(first.pieces(step), again.pieces(step), strict=True):
            assert torch.equal(a.audio, b.audio)
            assert torch.equal(a.target, b.target)
            assert torch.equal(a.levels, b.levels)
            assert (a.rows == b.rows).all()
            assert a.audio.shape[1] / 16_000 in WIDTHS_S
            assert int(a.lengths.max()) <= a.audio.shape[1] - 0.4 * 16_000 + 1
    one, two = next(first.pieces(0)), next(other.pieces(0))
    assert one.audio.shape != two.audio.shape or not torch.equal(one.audio, two.audio)


def test_pieces_together_are_the_batch(folder, speech) -> None:
    whole = next(batches(folder, speech, chance=NO_CHANGE).pieces(0))
    pieces = list(batches(folder, speech, chance=NO_CHANGE, piece_s=7.0).pieces(0))
    assert len(pieces) > 1
    assert sum(piece.share for piece in pieces) == pytest.approx(1.0)
    torch.testing.assert_close(torch.cat([p.target for p in pieces]), whole.target)
    assert torch.equal(torch.cat([p.levels for p in pieces]), whole.levels)
    assert [*np.concatenate([p.rows for p in pieces])] == [*whole.rows]


def test_without_changes_both_are_the_recording(folder, speech) -> None:
    seen = []
    for batch in batches(folder, speech).one_pass([0], 20.0, augmented=False):
        for row, clean, audio in zip(batch.rows, batch.target, batch.audio, strict=True):
            samples = torch.from_numpy(speech.samples(row))
            torch.testing.assert_close(clean[: len(samples)], samples, atol=1e-5, rtol=0)
            assert torch.equal(clean, audio)
            seen.append(row)
    assert sorted(seen) == list(range(len(speech)))


def augmented(folder: Path, clips: list[np.ndarray], **chance: float) -> tuple:
    """(target, audio, draws) of clips with these changes and no others."""
    config = NO_CHANGE.model_copy(update=chance)
    augment = Augment(load_speech(folder / "noise.parquet"), CPU)
    recordings = Recordings.from_clips(clips, CPU)
    width = int(recordings.lengths.max() / 0.8)
    draws = augment.draw(np.random.default_rng(0), recordings.lengths, width, config)
    rows = np.arange(len(clips))
    return *augment(recordings, rows, draws, width, 0), draws


def tone_of(hz: float, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(16_000 * seconds)) / 16_000)


def test_speed_changes_length_and_pitch(folder) -> None:
    target, audio, draws = augmented(folder, [tone_of(440)] * 4, speed=1.0)
    assert torch.equal(target, audio)
    assert len(set(draws.speed)) == 4
    for samples, speed, length in zip(target, draws.speed, draws.lengths, strict=True):
        assert length == int(16_000 / speed)
        assert not samples[length:].any()
        spectrum = torch.fft.rfft(samples[:length]).abs()
        assert float(spectrum.argmax()) * 16_000 / length == pytest.approx(440 * speed, abs=1.5)
        assert float(samples.abs().max()) == pytest.approx(0.5, abs=0.02)


def test_what_changes_the_target_and_what_does_not(folder, clips) -> None:
    samples = [clip.samples for clip in clips[:3]]
    plain = augmented(folder, samples)[0]
    for name in ("tone", "gain"):
        target, audio, _ = augmented(folder, samples, **{name: 1.0})
        assert torch.equal(target, audio)
        assert not torch.allclose(target, plain, atol=1e-3), name
        assert float(target.abs().max()) <= 1.0
    for name in ("reverberation", "noise", "band_limit"):
        target, audio, draws = augmented(folder, samples, **{name: 1.0})
        torch.testing.assert_close(target, plain)
        assert not torch.allclose(audio, plain, atol=1e-3), name
        both, again, _ = augmented(folder, samples, shared=1.0, **{name: 1.0})
        assert torch.equal(both, again)
    assert (draws.room == NONE).all()


def test_noise_has_its_ratio_and_ends_with_the_recording(folder) -> None:
    target, audio, draws = augmented(folder, [tone_of(300, 2.0)] * 8, noise=1.0, silence=1.0)
    assert {SYNTHETIC} < set(draws.noise)  # stationary and recorded ones
    for clean, noisy, i in zip(target, audio, range(8), strict=True):
        length = draws.lengths[i]
        noise = (noisy - clean)[:length]
        if float(noisy.abs().max()) < 1.0:  # not clipped
            ratio_db = 10 * torch.log10(clean[:length].square().mean() / noise.square().mean())
            assert float(ratio_db) == pytest.approx(draws.snr_db[i], abs=2.5)
        end = length + draws.silence[i]
        assert draws.silence[i] > 0
        assert noisy[length:end].any()
        assert not noisy[end:].any()


def test_rooms_keep_the_loudness(folder) -> None:
    rng = np.random.default_rng(0)
    white = [0.1 * rng.standard_normal(32_000).astype(np.float32)] * 6
    target, audio, draws = augmented(folder, white, reverberation=1.0)
    assert {SYNTHETIC, 0} == set(draws.room)
    powers = audio.square().sum(1) / target.square().sum(1)
    assert (powers > 0.7).all()
    assert (powers < 1.3).all()


def test_band_limits_cut_off(folder) -> None:
    rng = np.random.default_rng(0)
    white = [0.1 * rng.standard_normal(32_000).astype(np.float32)] * 8
    _, audio, draws = augmented(folder, white, band_limit=1.0)
    for samples, low, high in zip(audio, draws.low_pass_hz, draws.high_pass_hz, strict=True):
        power = torch.fft.rfft(samples).abs().square()
        hz = torch.fft.rfftfreq(len(samples), 1 / 16_000)
        passed = power[(hz > high) & (hz < low)].mean()
        assert power[hz > 1.1 * low].mean() < 0.01 * passed
        if high:
            assert power[hz < 0.7 * high].mean() < 0.05 * passed


def test_held_out_noise_is_not_used(folder) -> None:
    augment = Augment(load_speech(folder / "noise.parquet"), CPU)
    assert len(augment._rooms) == 1
    assert len(augment._noises) == 3
    assert is_held_out(4)


def test_lost_frames_are_whole_seconds() -> None:
    lost = lost_frames(np.random.default_rng(0), 4000, 110, 0.5)
    chunks = [lost[:, i : i + 25] for i in range(0, 110, 25)]
    for chunk in chunks:
        assert (chunk.all(1) == chunk.any(1)).all()
    assert 0.06 < np.mean([c[:, 0] for c in chunks]) < 0.09  # half of 0 to 30 %


def small_codec() -> VQCodecModel:
    config = VQCodecModel.config_class(
        num_quantizers=3, codebook_size=16, latent_dim=8, hidden_size=16, num_fine_layers=1,
        num_layers=1, decoder_hidden_size=8, num_decoder_layers=1, base_dim=5,
    )  # fmt: skip
    torch.manual_seed(0)
    return VQCodecModel(config).eval()


@torch.no_grad()
def test_the_rotation_changes_nothing_that_is_read(clips) -> None:
    codec = small_codec()
    embedder = CodeEmbedder(
        CodeEmbedderConfig(3, 16, 8, embed_dim=12, hidden_size=16, num_closing_frames=4)
    ).eval()
    for latent in (embedder.no_frame, embedder.missing_frame, embedder.closing_frames):
        latent.normal_()
    samples = torch.from_numpy(clips[0].samples)[None]

    def read() -> tuple:
        latents, mask = codec.encode_latents(samples)
        some = mask & (torch.arange(mask.shape[1]) % 7 != 0)  # others are read as no frame
        missing = torch.arange(mask.shape[1]) % 11 == 0
        seen = torch.where(missing[None, :, None], embedder.missing_frame, latents)
        levels = torch.zeros_like(some, dtype=torch.long)
        closed, _ = embedder.close_latents(seen, some, levels, mask.sum(1), levels[:, 0])
        decoder = codec.mel_decoder
        return latents, decoder(latents)[:, : -4 * decoder.right], closed

    latents, mel, embeddings = read()
    rotated = rotate_latents(codec, [embedder], latents[0])
    again, mel_again, embeddings_again = read()
    torch.testing.assert_close(again[0], rotated, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(mel_again, mel, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(embeddings_again, embeddings, atol=1e-4, rtol=1e-3)
    variance = again[0].var(0)
    assert float(variance[:5].mean()) == pytest.approx(1.0, rel=1e-3)
    assert float(variance[5:].sum()) <= OUTER_SHARE * 5 * 1.001
    assert (variance[:4] >= variance[1:5] - 1e-4).all()
    penalty = scale_penalty(again, torch.ones(again.shape[:2], dtype=torch.bool), 5)
    assert float(penalty) < 5.0


def test_the_penalty_holds_the_scales() -> None:
    torch.manual_seed(0)
    latents = (torch.randn(2, 400, 8) * 5.0).requires_grad_()
    mask = torch.arange(400) < torch.tensor([[400], [300]])
    optimizer = torch.optim.Adam([latents], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        scale_penalty(latents, mask, 5).backward()
        optimizer.step()
    variance = latents.detach()[mask].var(0)
    assert float(variance[:5].sum()) == pytest.approx(5.0, rel=0.05)
    assert float(variance[5:].sum() / variance[:5].sum()) == pytest.approx(OUTER_SHARE, rel=0.05)
    assert not latents.grad[1, 300:].any()


def test_both_depthwise_convolutions_agree() -> None:
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 40, 16), torch.randn(7, 16)
    for outputs in (34, 0):
        x = x[:, : outputs + 6]
        torch.testing.assert_close(
            depthwise_by_conv1d(x, kernel, outputs), depthwise_by_shifts(x, kernel, outputs),
            atol=1e-5, rtol=1e-5,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "bare", "stopped"),
    [
        ("TO MAKE DRY TOAST", "To make dry toast", "To make dry toast."),
        ("Is it?", "Is it?", "Is it?"),
        ("already written. So", "already written. So", "already written. So."),
        ("", "", ""),
    ],
)
def test_texts_end_with_and_without_a_full_stop(text, bare, stopped) -> None:
    assert as_whisper_writes(text, False) == bare
    assert as_whisper_writes(text, True) == stopped


def test_tokens_and_their_ends(recogniser) -> None:
    whisper = recogniser.whisper
    table = TokenTable(whisper, ["TO MAKE DRY TOAST", "", "yes"], CPU)
    rows, stops = np.array([0, 0, 1, 2]), np.array([False, True, True, False])
    targets = table(rows, stops, with_end=True)
    following = targets.labels[: int((targets.text_weight + targets.end_weight).sum())].tolist()
    end = whisper.model.generation_config.eos_token_id
    pieces = whisper.tokenizer.decode(following).split(whisper.tokenizer.decode([end]))
    assert pieces == [" To make dry toast", " To make dry toast.", " Yes", ""]
    assert float(targets.end_weight.sum()) == 3
    assert len(targets.positions) % 64 == 0
    without = table(rows, stops, with_end=False)
    assert float(without.end_weight.sum()) == 0
    assert float(without.text_weight.sum()) == float(targets.text_weight.sum())


def test_letters_leave_digits_and_unknown_texts_out() -> None:
    table = LetterTable(["It's a DOG.", "room 12", ""], CPU)
    letters, lengths = table(np.array([0, 1, 2]))
    assert lengths.tolist() == [len("it's a dog"), 0, 0]
    assert "".join(LETTERS[i] for i in letters[0]) == "it's a dog"


@pytest.mark.usefixtures("without_bfloat16")
def test_only_the_wanted_positions_are_predicted(recogniser) -> None:
    whisper = recogniser.whisper
    teacher = WhisperTeacher(whisper.model, CPU)
    generator = torch.Generator().manual_seed(0)
    target = 0.5 * torch.randn(2, 30, whisper.model.config.d_model, generator=generator)
    states = target + 0.2 * torch.randn(target.shape, generator=generator)
    targets = TokenTable(whisper, ["and so it was", "yes"], CPU)(
        np.array([0, 1]), np.array([True, True]), with_end=False
    )
    with torch.no_grad():
        parts = decoder_losses(teacher, states, target, targets)
        model = whisper.model
        reference, predicted = (
            model.proj_out(
                model.model.decoder(
                    input_ids=targets.tokens, encoder_hidden_states=s
                ).last_hidden_state
            ).log_softmax(-1).flatten(0, 1)[targets.positions]
            for s in (target, states)
        )  # fmt: skip
    words = targets.text_weight.bool()
    divergence = (reference.exp() * (reference - predicted)).sum(-1)[words].mean()
    surprise = F.nll_loss(predicted[words], targets.labels[words])
    torch.testing.assert_close(parts["decoder"], divergence, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(parts["transcript"], surprise, rtol=1e-3, atol=1e-4)
    assert float(divergence) > 0.01


@torch.no_grad()
@pytest.mark.usefixtures("without_bfloat16")
def test_the_loss_is_that_of_the_finished_model(recogniser, codec, clips) -> None:
    """The losses without padding are those of the model that transcribes without padding."""
    whisper, embedder = recogniser.whisper, recogniser.embedder
    texts = [clips[0].text, "", clips[2].text]
    recordings = Recordings.from_clips([clip.samples for clip in clips[:3]], CPU, texts)
    samples = torch.zeros(3, int(recordings.lengths.max()) + 16_000)
    for i, row in enumerate(samples):
        row[: recordings.lengths[i]] = torch.from_numpy(recordings.samples(i))
    sample_mask = torch.arange(samples.shape[1]) < torch.from_numpy(recordings.lengths)[:, None]
    latents, mask = codec.encode_latents(samples, sample_mask)
    levels = torch.tensor([2, 2, 2])
    table = TokenTable(whisper, texts, CPU)
    batch = Batch(
        np.arange(3), samples, samples, torch.from_numpy(recordings.lengths),
        torch.from_numpy(recordings.lengths), levels, torch.ones(3), ~mask, np.ones(3, bool), 1.0,
    )  # fmt: skip
    loss = RecogniserLoss(RecogniserConfig(name="tiny.en"), whisper, embedder, CPU)
    coded = codec.quantizer(latents, levels, mask)
    parts = loss(batch, table, coded, mask, levels, closed=True, step=0)
    codes = codec.quantizer.encode(latents, 2).masked_fill(~mask[:, None], -1)
    model = VQWhisperForConditionalGeneration.from_base(whisper.model, embedder, b"codec!")
    ends, words = [], []
    for i in (0, 2):
        one = table(np.array([i]), np.array([True]), True)
        logits = model(
            input_features=to_features(codes[i : i + 1]), decoder_input_ids=one.tokens
        ).logits[0, one.positions]
        nats = F.cross_entropy(logits, one.labels, reduction="none")
        ends.append(nats[one.end_weight.bool()]), words.append(nats[one.text_weight.bool()])
    torch.testing.assert_close(parts["end"], torch.cat(ends).mean(), rtol=0.03, atol=2e-3)
    torch.testing.assert_close(parts["transcript"], torch.cat(words).mean(), rtol=0.03, atol=2e-3)


def test_recordings_without_text_are_transcribed_once(recogniser, clips, tmp_path) -> None:
    samples = [clip.samples for clip in clips[:2]]
    noise = 0.001 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    recordings = Recordings.from_clips([*samples, noise], CPU, ["", clips[1].text, ""])
    made = transcribe_missing(recordings, recogniser.whisper, CPU, tmp_path)
    text, score = made[0]
    assert text == clips[0].text
    assert -0.4 < score < 0.0
    assert 1 not in made
    assert 2 not in made or made[2][1] < score

    class Used(Exception):
        pass

    unusable = copy.copy(recogniser.whisper)
    unusable.feature_extractor = None  # nothing can be transcribed with it
    assert transcribe_missing(recordings, unusable, CPU, tmp_path) == made


def test_codes_for_the_prior_are_chosen_by_it(folder, speech, codec, tmp_path) -> None:
    from vqasr.entropy.bundled import bundled_prior

    some = batches(folder, speech.select([*range(6)]), chance=NO_CHANGE)
    prior = bundled_prior(codec.fingerprint())
    nearest = training_codes(codec, some, 1, 0, tmp_path)
    chosen = training_codes(codec, some, 1, 0, tmp_path, prior)
    assert nearest.shape == chosen.shape == (8, sum(-(-speech.lengths[:6] // 640)))
    assert prior.bits(chosen).sum() < prior.bits(nearest).sum()
    assert (training_codes(codec, some, 1, 0, tmp_path) == nearest).all()
    assert len(list(tmp_path.glob("codes-*"))) == 2


def test_speech_labels_tell_pauses(clips) -> None:
    wave = torch.from_numpy(clips[0].samples)
    padded = torch.cat([wave, torch.zeros(16_000)])[None]
    labels = speech_frames(padded, torch.tensor([len(padded[0])]))[0]
    assert labels[10:60].float().mean() > 0.7
    assert not labels[-20:].any()


def test_a_data_set_is_named_by_its_audio(folder) -> None:
    data = load_speech(folder / "speech.parquet")
    assert data_fingerprint(data) == data_fingerprint(load_speech(folder / "speech.parquet"))
    assert data_fingerprint(data) != data_fingerprint(data.select([1, 0, *range(2, len(data))]))
    assert data_fingerprint(data) != data_fingerprint(data.select(range(3)))


def test_a_line_of_the_log_before_each_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "model", "abc")
    with StepLog(run, 0, 10, log_every=4, save_every=3) as log:
        due = [step + 1 for step in range(10) if log.add("joint", step, {"a": torch.tensor(1.0)})]
        with pytest.raises(TrainingError, match="is nan"):
            log.add("joint", 11, {"a": torch.tensor(torch.nan)})
    assert due == [3, 6, 9, 10]
    assert [line["step"] for line in run.logged("joint")] == [3, 4, 6, 8, 9, 10]
