"""The gate: what decodes agrees with what was recorded; what cannot be used says why, by one
code.
"""

import os
import struct
from pathlib import PurePosixPath

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import (
    encoded,
    encoded_av,
    noise,
    plant,
    recordings_table,
    snr_db,
    tone,
    wav_bytes,
    write_wav,
)

from helpers.audio import containers, decoder, recording
from helpers.audio.decoder import Decoded
from helpers.base import artifacts
from helpers.base.errors import AudioIssue
from helpers.base.settings import Data
from helpers.data import sources
from helpers.layouts import listing

LAW = settings(deadline=None, derandomize=True, max_examples=50)
RATE = 16000
CHORD = tone(440, 2, amplitude=0.3) + tone(1333, 2, amplitude=0.2)


def decode(folder, content, **limits):
    (folder / "x").write_bytes(content)
    return decoder.decode(folder / "x", **limits)


# --- decoding ----------------------------------------------------------------------------------

LINEAR = {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64}


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", subtype) for subtype in LINEAR]
    + [(container, "PCM_16") for container in ("WAVEX", "RF64", "FLAC", "AIFF", "AU")]
    + [("FLAC", "PCM_24"), ("WAVEX", "FLOAT"), ("AIFF", "PCM_24")],
)
def test_linear_formats_agree_with_the_source_within_one_step(tmp_path, container, subtype):
    stereo = np.stack([CHORD, noise(2, rms=0.1)], axis=1)
    decoded = decode(tmp_path, encoded(stereo, RATE, container, subtype))
    step = max(2.0 ** (1 - LINEAR[subtype]), 2.0**-24)  # float32 holds 24 bits
    assert decoded.waveform.shape == stereo.shape
    assert decoded.waveform.dtype == np.float32
    assert np.abs(decoded.waveform - stereo).max() <= step
    assert (decoded.sample_rate, decoded.bit_depth) == (RATE, LINEAR[subtype])
    assert decoded.codec.endswith(subtype)


@pytest.mark.parametrize(("bits", "kind"), [(16, "<i2"), (32, "<i4")])
def test_integers_are_fractions_of_full_scale(tmp_path, bits, kind):
    samples = np.array([-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 2)], dtype=kind)
    decoded = decode(tmp_path, wav_bytes(samples.tobytes(), bits=bits))
    assert decoded.waveform[:, 0].tolist() == (samples / 2.0 ** (bits - 1)).tolist()


@pytest.mark.parametrize(
    ("content", "codec", "least_snr_db"),
    [
        (lambda: encoded(CHORD, subtype="ALAW"), "WAV/ALAW", 30),
        (lambda: encoded(CHORD, subtype="ULAW"), "WAV/ULAW", 30),
        (lambda: encoded(CHORD, format="OGG"), "OGG/VORBIS", 25),
        (lambda: encoded(CHORD, format="MP3"), "MP3/MPEG_LAYER_III", 25),
    ],
)
def test_companded_and_lossy_formats_keep_the_sound_in_its_place(
    tmp_path, content, codec, least_snr_db
):
    decoded = decode(tmp_path, content())
    assert decoded.codec == codec
    assert decoded.waveform.shape == (len(CHORD), 1)
    assert snr_db(decoded.waveform[:, 0], CHORD) > least_snr_db


@pytest.mark.parametrize(
    ("container", "codec", "name", "delay"),
    [
        ("ipod", "aac", "MP4/AAC", 1024),
        ("adts", "aac", "AAC/AAC", 1024),
        ("ipod", "alac", "MP4/ALAC", 0),
    ],
)
def test_what_libsndfile_cannot_read_keeps_the_sound_behind_its_coders_delay(
    tmp_path, container, codec, name, delay
):
    decoded = decode(tmp_path, encoded_av(CHORD, RATE, container, codec))
    heard = decoded.waveform[delay : delay + len(CHORD), 0]
    assert (decoded.codec, decoded.sample_rate) == (name, RATE)
    assert len(heard) == len(CHORD)
    inside = slice(2048, -2048)  # the coder fades in and out
    assert snr_db(heard[inside], CHORD[inside]) > 25


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 2000])
def test_a_streaming_header_is_as_good_as_a_true_one(tmp_path, declared):
    data = np.arange(1000, dtype="<i2").tobytes()
    decoded = decode(tmp_path, wav_bytes(data, declared=declared))
    assert np.array_equal(decoded.waveform[:, 0] * 2**15, np.arange(1000))


@pytest.mark.parametrize("suffix", [".WAV", ".mp3", ".txt", ""])
def test_the_content_decides_not_the_name(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(encoded(CHORD, format="FLAC"))
    assert decoder.decode(tmp_path / f"x{suffix}").codec == "FLAC/PCM_16"


@pytest.mark.parametrize(
    "name", ["é ü.wav", "a,b.wav", 'say "x".wav', "two\nlines.wav", "n" * 251 + ".wav"]
)
def test_any_name_the_disk_takes_can_be_read(tmp_path, name):
    assert len(decoder.decode(write_wav(tmp_path / name, CHORD)).waveform) == len(CHORD)


# --- refusals ----------------------------------------------------------------------------------


def half(content, share=0.5):
    return content[: int(len(content) * share)]


def guid(codec):
    """The rest of an extensible WAV header: size, valid bits, speakers, and the real codec's
    identity.
    """
    return struct.pack("<HHIH", 22, 16, 4, codec) + bytes.fromhex("000000001000800000aa00389b71")


def with_sample(value):
    spoilt = CHORD.copy()
    spoilt[1000] = value
    return encoded(spoilt, subtype="FLOAT")


def flac_declaring(samples):
    """A FLAC whose STREAMINFO declares another number of samples (0: not known, as a stream
    does).
    """
    content = bytearray(encoded(CHORD, format="FLAC"))
    content[21] = (content[21] & 0xF0) | samples >> 32
    content[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(content)


LONG_NOISE = noise(60)
REFUSED = {
    "0 bytes": ("EMPTY_FILE", lambda: b""),
    "header only": ("EMPTY_AUDIO", lambda: wav_bytes(b"")),
    "size 0, bytes follow": ("EMPTY_AUDIO", lambda: wav_bytes(declared=0)),
    "text": ("NOT_AUDIO", lambda: b"this is no sound at all, whatever its name"),
    "one byte": ("NOT_AUDIO", lambda: b"\xff"),
    "header cut at 12": ("NOT_AUDIO", lambda: wav_bytes()[:12]),
    "no data chunk": ("NOT_AUDIO", lambda: wav_bytes()[:36]),
    "cut WAV": ("TRUNCATED", lambda: half(encoded(CHORD))),
    "cut FLAC": ("TRUNCATED", lambda: half(encoded(CHORD, format="FLAC"))),
    "cut MP3": ("TRUNCATED", lambda: half(encoded(CHORD, format="MP3"))),
    "cut OGG": ("TRUNCATED", lambda: half(encoded(LONG_NOISE, format="OGG"))),
    "last WAV sample cut": ("TRUNCATED", lambda: encoded(CHORD)[:-1]),
    "NaN": ("NONFINITE", lambda: with_sample(np.nan)),
    "Inf": ("NONFINITE", lambda: with_sample(-np.inf)),
    "beyond float32": ("NONFINITE", lambda: encoded(np.full(100, 1e300), subtype="DOUBLE")),
    "1 Hz": ("BAD_RATE", lambda: wav_bytes(sample_rate=1)),
    "2 GHz": ("BAD_RATE", lambda: wav_bytes(sample_rate=2_000_000_000)),
    "1024 channels": ("TOO_MANY_CHANNELS", lambda: wav_bytes(bytes(2048 * 8), channels=1024)),
    "17 channels": ("TOO_MANY_CHANNELS", lambda: wav_bytes(bytes(34 * 8), channels=17)),
    "IMA ADPCM": ("CODEC_NOT_ALLOWED", lambda: wav_bytes(codec=0x11, bits=4)),
    "MS ADPCM": ("CODEC_NOT_ALLOWED", lambda: encoded(CHORD, subtype="MS_ADPCM")),
    "GSM": ("CODEC_NOT_ALLOWED", lambda: encoded(CHORD, subtype="GSM610")),
}


def code_of(folder, content, **limits):
    with pytest.raises(AudioIssue) as refusal:
        decode(folder, content, **limits)
    assert str(refusal.value) == f"{refusal.value.code}: {refusal.value.detail}"
    return refusal.value.code


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_its_code(tmp_path, case):
    code, content = REFUSED[case]
    assert code_of(tmp_path, content()) == code


@pytest.mark.parametrize(
    ("code", "content"),
    [
        pytest.param(
            "NOT_AUDIO", lambda: wav_bytes()[:20], id="WAV header cut at 20 bytes (row 4)"
        ),
        pytest.param("BAD_RATE", lambda: wav_bytes(sample_rate=0), id="0 Hz (row 24)"),
        pytest.param(
            "TRUNCATED",
            lambda: encoded(LONG_NOISE, format="OGG")[:-100],
            id="OGG, last page cut (row 8)",
        ),
        pytest.param(
            "TRUNCATED",
            lambda: half(encoded(CHORD, format="OGG")),
            id="short OGG cut in half (row 8)",
        ),
        pytest.param(
            "TRUNCATED", lambda: half(encoded(CHORD, format="RF64")), id="RF64 cut (row 5)"
        ),
        pytest.param("TRUNCATED", lambda: half(encoded(CHORD, format="AIFF")), id="AIFF cut"),
        pytest.param("TRUNCATED", lambda: half(encoded(CHORD, format="AU")), id="AU cut"),
        pytest.param(
            "CODEC_NOT_ALLOWED",
            lambda: encoded(CHORD, RATE, "AIFF", "IMA_ADPCM"),
            id="IMA in AIFF (19)",
        ),
        pytest.param(
            "CODEC_NOT_ALLOWED",
            lambda: wav_bytes(codec=0xFFFE, extra=guid(2)),
            id="ADPCM in WAVEX (19)",
        ),
        pytest.param(
            "CODEC_NOT_ALLOWED",
            lambda: encoded(CHORD, RATE, "AU", "G721_32"),
            id="G721 in AU: ValueError",
        ),
        pytest.param(
            "CODEC_NOT_ALLOWED",
            lambda: encoded(CHORD, 8000, "AIFF", "GSM610"),
            id="GSM in AIFF: ValueError",
        ),
        pytest.param(
            "TRUNCATED",
            lambda: flac_declaring(2**28),
            id="FLAC declaring 2^28 samples: MemoryError",
        ),
        pytest.param(
            "TOO_LARGE", lambda: flac_declaring(2**36 - 1), id="FLAC declaring 2^36 samples"
        ),
    ],
)
def test_the_rest_of_what_cannot_be_used_is_refused_by_its_code(tmp_path, code, content):
    assert code_of(tmp_path, content()) == code


def test_a_flac_from_a_stream_that_does_not_know_its_length_is_read(tmp_path):
    assert len(decode(tmp_path, flac_declaring(0), max_seconds=60).waveform) == len(CHORD)


@pytest.mark.parametrize(
    "content",
    [
        lambda: encoded(CHORD),
        lambda: encoded(CHORD, format="FLAC"),
        lambda: encoded(CHORD, format="OGG"),
        lambda: encoded(CHORD, format="MP3"),
        lambda: encoded_av(CHORD),
    ],
    ids=["wav", "flac", "ogg", "mp3", "m4a"],
)
def test_what_is_too_long_is_refused_before_it_is_decoded(tmp_path, monkeypatch, content):
    assert len(decode(tmp_path, content(), max_seconds=2.2).waveform) >= len(CHORD)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    assert code_of(tmp_path, content(), max_seconds=1.9) == "TOO_LONG"


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_what_would_not_fit_into_memory_over_all_its_channels_is_refused_before_it_is_decoded(
    tmp_path, monkeypatch, format
):
    content = encoded(np.stack([CHORD, CHORD], axis=1), format=format)
    monkeypatch.setattr(decoder, "MAX_SAMPLES", 2.2 * len(CHORD))
    assert decode(tmp_path, content).waveform.shape[1] == 2
    monkeypatch.setattr(decoder, "MAX_SAMPLES", 1.9 * len(CHORD))
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    assert code_of(tmp_path, content) == "TOO_LARGE"


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "x.wav").mkdir()
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    codes = {
        "x.wav": "NOT_REGULAR",
        "fifo.wav": "NOT_REGULAR",
        "loop.wav": "UNREADABLE",
        "gone.wav": "UNREADABLE",
    }
    for name, code in codes.items():
        with pytest.raises(AudioIssue, match=code):
            decoder.decode(tmp_path / name)


def mutants(content, number, seed):
    """Copies of a file with a few bytes changed, dropped or added, half of them near its start."""
    generator = np.random.default_rng(seed)
    for _ in range(number):
        mutant = bytearray(content)
        for _ in range(generator.integers(1, 8)):
            at, length = (
                generator.integers(generator.choice([64, len(content)]) - 16),
                generator.integers(1, 16),
            )
            end = at + generator.choice([0, length])
            mutant[at:end] = generator.bytes(generator.choice([0, length]))
        yield bytes(mutant)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_damaged_file_is_finite_audio_or_an_issue_never_anything_else(tmp_path, container):
    content, survived, refused = encoded(CHORD, format=container), 0, 0
    for mutant in mutants(content, number=75, seed=7):
        try:
            waveform = decode(tmp_path, mutant, max_seconds=60).waveform
        except AudioIssue:
            refused += 1
        else:
            assert len(waveform) and np.isfinite(waveform).all()
            survived += 1
    assert survived + refused == 75
    assert refused  # the mutants do bite


@pytest.mark.parametrize("suffix", containers.SUFFIXES)
def test_every_suffix_that_is_looked_for_fits_a_format(tmp_path, suffix):
    names = [name for name, one in containers.FORMATS.items() if suffix in one.suffixes.split()]
    assert names and listing._kind(PurePosixPath(f"a/b{suffix.upper()}")) == "train"


def test_an_aifc_is_an_aiff_by_its_name_too(tmp_path):
    soundfile.write(tmp_path / "a.aifc", CHORD, RATE, format="AIFF")
    table = recording.survey(tmp_path, recordings_table({"path": "a.aifc"}))
    assert (table["status"].tolist(), table["flags"].tolist()) == (["ok"], [""])


# --- mono, resampling, writing -----------------------------------------------------------------


def test_a_written_file_holds_what_libsndfile_writes(tmp_path):
    recording.write(tmp_path / "ours.flac", CHORD, RATE)
    soundfile.write(tmp_path / "theirs.flac", CHORD, RATE, subtype="PCM_16")
    assert (tmp_path / "ours.flac").read_bytes() == (tmp_path / "theirs.flac").read_bytes()


@LAW
@given(st.lists(st.floats(-120, 0), min_size=1, max_size=40))
def test_the_tenth_percentile_is_numpys(levels):
    assert recording._tenth(np.array(levels)) == pytest.approx(
        np.percentile(levels, 10), rel=1e-12, abs=1e-12
    )


def test_mono_is_the_mean_of_the_channels():
    left, right = noise(seed=1), noise(seed=2)
    mono, cancels = recording.to_mono(np.stack([left, right], axis=1))
    assert not cancels
    np.testing.assert_allclose(mono, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_equal_channels_are_their_mono(n_channels):
    mono, cancels = recording.to_mono(np.stack([CHORD] * n_channels, axis=1))
    assert not cancels
    np.testing.assert_allclose(mono, CHORD, atol=1e-7)


def test_channels_in_opposite_phase_are_heard_all_the_same():
    stereo = np.stack([CHORD, -CHORD], axis=1)
    mono, cancels = recording.to_mono(stereo)
    assert cancels
    assert np.array_equal(mono, CHORD)
    assert not np.shares_memory(mono, stereo)
    assert not recording.to_mono(np.zeros((10, 2), np.float32))[1]


RATES = st.sampled_from([4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])


@LAW
@given(st.integers(1, 30000), RATES, RATES)
def test_resampling_keeps_the_duration_to_half_a_sample(n_samples, from_rate, to_rate):
    resampled = recording.resample(np.ones(n_samples, np.float32), from_rate, to_rate)
    assert abs(len(resampled) - n_samples * to_rate / from_rate) <= 0.5 + 1e-9
    assert resampled.dtype == np.float32


@LAW
@given(RATES, RATES, st.floats(0.05, 0.8))
def test_resampling_keeps_a_tone_and_its_place(from_rate, to_rate, share):
    frequency = share * min(from_rate, to_rate) / 2
    heard = recording.resample(tone(frequency, 0.5, from_rate), from_rate, to_rate)
    ideal = tone(frequency, len(heard) / to_rate, to_rate)
    inside = slice(len(ideal) // 4, -len(ideal) // 4)
    assert snr_db(heard[inside], ideal[inside]) > 60


def test_resampling_removes_what_the_new_rate_cannot_hold():
    heard = recording.resample(tone(9500, 1, 48000), 48000, 16000)
    assert recording.level_db(heard[1000:-1000]) < -80


def test_loading_is_decoding_mono_and_resampling_with_dc_kept(tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([tone(500, 1, 44100) + 0.2] * 2, axis=1), 44100, subtype="FLOAT")
    heard = recording.load(path, RATE)
    assert heard.shape == (RATE,)
    assert snr_db(heard[1000:-1000], tone(500, 1)[1000:-1000] + 0.2) > 60


def test_what_passes_the_gate_is_never_empty(tmp_path):
    assert len(recording.load(write_wav(tmp_path / "x.wav", CHORD[:1], 44100), RATE)) > 0


@LAW
@given(st.lists(st.floats(-1, 1, width=32), max_size=50))
def test_what_is_written_is_read_back_within_one_step(tmp_path_factory, samples):
    path = tmp_path_factory.getbasetemp() / "written.flac"
    waveform = np.array([0, *samples], dtype=np.float32)
    recording.write(path, waveform, RATE)
    assert np.abs(recording.load(path, RATE) - waveform).max() <= 2.0**-15


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [1.001], [-1.001], [[0.1, 0.1]]])
def test_what_would_be_written_as_a_click_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"x\.flac"):
        recording.write(tmp_path / "x.flac", bad, RATE)
    assert not (tmp_path / "x.flac").exists()


@pytest.mark.parametrize("rate", [16000, 44100, 96000])
def test_an_mp3_for_a_page_sounds_like_its_source(tmp_path, rate):
    decoded = decode(tmp_path, recording.encode_mp3(tone(500, 1, rate), rate))
    ideal = tone(500, 1, decoded.sample_rate)
    assert snr_db(decoded.waveform[2000:-2000, 0], ideal[2000:-2000]) > 20


# --- measuring ---------------------------------------------------------------------------------


def measured(waveform, rate=RATE):
    waveform = np.asarray(waveform, np.float32)
    return recording.measure(
        Decoded(waveform[:, None] if waveform.ndim == 1 else waveform, rate, "WAV/PCM_16", 16)
    )


def test_a_sine_measures_as_theory_says():
    facts = measured(tone(440, 2, amplitude=0.5))
    assert facts["duration_seconds"] == 2
    assert facts["peak"] == pytest.approx(0.5, rel=1e-4)
    assert facts["rms_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert (facts["dc_offset"], facts["silence_fraction"], facts["flags"]) == (0, 0, "")


@pytest.mark.parametrize(
    ("waveform", "flags"),
    [
        (tone() + 0.2, "DC_OFFSET"),
        (np.clip(10 * tone(), -1, 1), "CLIPPED"),
        (40 * tone(), "OVER_RANGE"),
        (np.stack([tone(), -tone()], axis=1), "PHASE_CANCEL"),
        (np.zeros(RATE), ""),
        (noise(), ""),
    ],
)
def test_a_flag_is_raised_by_its_defect_alone(waveform, flags):
    assert measured(waveform)["flags"] == flags


def test_level_and_silence_do_not_count_dc():
    still, hum = measured(np.full(RATE, 0.3)), measured(tone() + 0.3)
    assert (still["rms_db"], still["silence_fraction"]) == (recording.FLOOR_DB, 1)
    assert hum["rms_db"] == measured(tone())["rms_db"]
    assert hum["dc_offset"] == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
def test_silence_is_the_share_of_silent_frames(share):
    waveform = noise(2)
    waveform[: round(share * len(waveform))] = 0
    assert measured(waveform)["silence_fraction"] == pytest.approx(share, abs=1e-3)


def test_equal_samples_have_equal_hashes_whatever_file_they_came_in(tmp_path):
    samples = (CHORD * 32767).astype(np.int16)
    facts = [
        recording.measure(decode(tmp_path, encoded(samples, format=form)))
        for form in ("WAV", "FLAC", "AIFF")
    ]
    assert len({fact["pcm_sha256"] for fact in facts}) == 1
    others = [measured(-CHORD), measured(CHORD[:-1]), measured(CHORD, 8000), measured(CHORD * 0.99)]
    assert len({fact["pcm_sha256"] for fact in [facts[0], *others]}) == 5


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_different_samples_have_different_hashes_at_any_level():
    ramp = np.linspace(1e9, 2e9, 100)
    assert measured(ramp)["pcm_sha256"] != measured(ramp[::-1])["pcm_sha256"]


@pytest.mark.parametrize("frequency", [500, 4000])
def test_a_tone_far_below_full_scale_is_not_clipped(frequency):
    assert measured(tone(frequency, amplitude=0.1))["flags"] == ""


@pytest.mark.parametrize("n_samples", [1, 2, 100])
def test_a_few_samples_can_be_measured(n_samples):
    facts = measured(np.full(n_samples, 0.5))
    assert all(np.isfinite(value) for value in facts.values() if isinstance(value, int | float))


# --- the survey --------------------------------------------------------------------------------


def survey(root):
    return recording.survey(root, sources.find(root, Data())).set_index("path")


def test_a_survey_measures_what_it_can_and_sets_aside_the_rest(tmp_path):
    for name in ("dog/1.wav", "cat/2.wav"):
        write_wav(tmp_path / name, CHORD)
    plant(tmp_path, "dog/text.wav", content=b"words")
    plant(tmp_path, "dog/empty.wav", content=b"")
    plant(tmp_path, "cat/cut.flac", content=half(encoded(CHORD, format="FLAC")))
    plant(tmp_path, "notes.txt")
    found = survey(tmp_path)
    codes = {
        path: reason.split(":")[0]
        for path, reason in found["reason"].items()
        if found["status"][path] != "ok"
    }
    assert codes == {
        "dog/text.wav": "NOT_AUDIO",
        "dog/empty.wav": "EMPTY_FILE",
        "cat/cut.flac": "TRUNCATED",
        "notes.txt": "not an audio file by its name",
    }
    assert artifacts.account(found.reset_index()) == {
        "found": 6,
        "used": 2,
        "quarantined": 3,
        "ignored": 1,
    }
    assert found.loc["dog/1.wav", "sha256"] == artifacts.file_digest(tmp_path / "dog/1.wav")
    assert (
        found.loc["dog/1.wav", "pcm_sha256"]
        == found.loc["cat/2.wav", "pcm_sha256"]
        == measured_hash(tmp_path)
    )


def measured_hash(root):
    return recording.measure(decoder.decode(root / "dog/1.wav"))["pcm_sha256"]


def test_a_survey_is_a_recordings_table(tmp_path):
    for name in ("dog/1.wav", "cat/2.wav"):
        write_wav(tmp_path / name, CHORD)
    artifacts.write_table(tmp_path / "recordings.csv", survey(tmp_path).reset_index())
    read = artifacts.read_table(tmp_path / "recordings.csv")
    assert read.dtypes.astype(str).to_dict() == recordings_table({}).dtypes.astype(str).to_dict()
    assert read["duration_seconds"].tolist() == [2, 2]


def test_a_file_that_may_not_be_read_does_not_stop_the_survey(tmp_path, monkeypatch):
    for name in ("dog/1.wav", "cat/2.wav", "cat/secret.wav"):
        write_wav(tmp_path / name, CHORD)

    def guarded(path, *arguments, **options):
        if "secret" in str(path):
            raise PermissionError(13, "Permission denied")
        return open(path, *arguments, **options)

    for module in (decoder, artifacts):  # root may read everything, so refuse by hand
        monkeypatch.setattr(module, "open", guarded, raising=False)
    assert survey(tmp_path).loc["cat/secret.wav", "reason"].startswith("UNREADABLE")


def test_an_odd_codec_does_not_stop_the_survey(tmp_path):
    for name in ("dog/1.wav", "cat/2.wav"):
        write_wav(tmp_path / name, CHORD)
    plant(tmp_path, "dog/3.au", content=encoded(CHORD, RATE, "AU", "G721_32"))
    assert survey(tmp_path).loc["dog/3.au", "status"] == "quarantined"


def test_a_wrong_suffix_is_flagged(tmp_path):
    write_wav(tmp_path / "dog/1.wav", CHORD)
    plant(tmp_path, "cat/2.wav", content=encoded(CHORD, format="MP3"))
    assert survey(tmp_path)["flags"].to_dict() == {"dog/1.wav": "", "cat/2.wav": "EXT_MISMATCH"}
