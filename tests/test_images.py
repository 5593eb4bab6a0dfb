"""Spectrogram images: the files hold exactly what the front end sees, and validation finds what is
broken.
"""

import zipfile

import librosa
import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tables import noise, small_config, tone, tone_clips

from helpers.audio import features, images
from helpers.base.recipe import Train
from helpers.training import perturb

law = settings(deadline=None, max_examples=15, derandomize=True)
SIZE = 32
CONFIG = small_config(features={"image_size": SIZE})


def picture(*sounds, size=SIZE):
    """The images [B, size, size] of sounds."""
    waveforms = torch.from_numpy(np.stack(sounds))
    return images.mel_image(small_config(features={"image_size": size}))(waveforms).numpy()


# --- the front end -----------------------------------------------------------------------------


@law
@given(st.integers(0, 1000), st.floats(0.001, 0.3), st.sampled_from([16, 32, 50]))
def test_an_image_has_256_levels_of_0_to_1_and_its_loudest_point_is_near_1(seed, amplitude, size):
    image = picture(noise(4000, seed, amplitude), size=size)
    assert image.shape == (1, size, size) and image.dtype == np.float32
    assert image.min() >= 0 and 0.9 < image.max() <= 1
    np.testing.assert_array_equal((image * 255).round().astype(np.uint8) / np.float32(255), image)


@law
@given(st.integers(0, 1000), st.floats(-20, 6))
def test_an_image_does_not_know_the_gain(seed, gain_db):
    sound = noise(4000, seed, 0.1) + tone(700)
    np.testing.assert_allclose(
        picture(sound * np.float32(10 ** (gain_db / 20))), picture(sound), atol=1.01 / 255
    )


def test_levels_are_db_below_the_maximum_and_the_resizing_is_pils():
    waveform = torch.from_numpy(noise(4000) + tone(700))[None]
    mel = features.log_mel(CONFIG)(waveform)[0].numpy()
    level = np.clip((mel - mel.max() + features.RANGE_DB) / features.RANGE_DB, 0, 1)
    theirs = np.asarray(Image.fromarray(level).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(
        images.mel_image(CONFIG)(waveform)[0].numpy(), theirs, atol=1.01 / 255
    )


def test_a_size_like_the_spectrograms_keeps_every_point():
    waveform = torch.from_numpy(noise(4000) + tone(700))[None]
    mel = features.log_mel(CONFIG)(waveform)[:, :, :16]
    levels = images.MelImage(lambda _: mel, 16)(waveform)
    np.testing.assert_allclose(
        levels * features.RANGE_DB, mel - mel.max() + features.RANGE_DB, atol=0.2
    )


@pytest.mark.parametrize("size", [16, 32, 128, 200])
@pytest.mark.parametrize("frequency_hz", [300, 1000, 2000, 3000])
def test_a_tone_lies_in_the_row_of_its_frequency_low_ones_first(size, frequency_hz):
    [image] = picture(tone(frequency_hz), size=size)
    low, high, pitch = librosa.hz_to_mel(np.array([50.0, 4000.0, frequency_hz]))
    expected = (pitch - low) / (high - low) * size
    assert image.mean(axis=1).argmax() + 0.5 == pytest.approx(expected, abs=1.5 * size / 16)


@pytest.mark.parametrize("size", [16, 128, 200])
def test_time_runs_along_the_last_axis(size):
    [image] = picture(
        np.concatenate([tone(200, seconds=0.25), np.zeros(2000, np.float32)]), size=size
    )
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert row < size / 2 and column < size / 2
    assert image[:, : size // 3].mean() > image[:, -size // 3 :].mean() + 0.1


def test_what_lies_80_db_below_the_loudest_point_is_0():
    loud_then_silent = np.concatenate([tone(700, seconds=0.25), np.zeros(2000, np.float32)])
    assert (picture(loud_then_silent)[0][:, -4:] == 0).all()


def test_the_picture_of_silence_is_even_and_finite():
    image = picture(np.zeros(4000, np.float32))
    assert np.isfinite(image).all() and np.ptp(image) == 0


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    sounds = [noise(4000, 1), tone(500), np.zeros(4000, np.float32)]
    for image, sound in zip(picture(*sounds), sounds, strict=True):
        np.testing.assert_allclose(image, picture(sound)[0], atol=1.01 / 255)


# --- files -------------------------------------------------------------------------------------


def labelled(*labels):
    """Packed clips and rows with these labels, the second one on the test side."""
    packed, rows = tone_clips(folds=1, groups_per_fold=1)
    rows["label"] = labels
    rows.loc[1, "split"] = "test"
    return packed, rows


def test_files_hold_the_front_ends_levels_and_are_read_back_bit_by_bit(tmp_path):
    packed, rows = labelled("high", "high", "low", "low")
    assert images.write_images(packed, rows, CONFIG, tmp_path) == 3
    levels = images.read_images(tmp_path, rows, SIZE)
    assert levels.shape == (4, SIZE, SIZE) and levels.dtype == np.uint8
    assert not levels[1].any()
    for number in (0, 2, 3):
        seen = picture(features.unpack(packed[number]))[0]
        np.testing.assert_array_equal(features.unpack(levels[number]), seen)
        np.testing.assert_array_equal(
            features.unpack(torch.from_numpy(levels[number])).numpy(), seen
        )


@law
@given(st.integers(0, 1000), st.integers(16, 40))
def test_any_levels_survive_a_file(tmp_path_factory, seed, size):
    levels = np.random.default_rng(seed).integers(256, size=(size, size), dtype=np.uint8)
    _, rows = tone_clips((("tone", 400),), folds=1, groups_per_fold=1, clips_per_group=1)
    path = tmp_path_factory.mktemp("levels") / images.image_path(rows.iloc[0])
    path.parent.mkdir()
    images.to_png(levels).save(path)
    np.testing.assert_array_equal(images.read_images(path.parents[1], rows, size)[0], levels)


def test_a_picture_has_low_frequencies_at_the_bottom_in_the_colours_of_magma():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = images.to_png(levels)
    np.testing.assert_array_equal(np.asarray(image), levels[::-1])
    magma = matplotlib.colormaps["magma"](levels[::-1])[..., :3]
    np.testing.assert_allclose(np.asarray(image.convert("RGB")) / 255, magma, atol=1 / 255)


def test_an_image_lies_in_the_folder_of_its_label_under_its_clips_name():
    _, rows = tone_clips()
    assert images.image_path(rows.iloc[0]) == "high/high100-000.png"
    assert images.image_path({"clip_id": "x-000", "label": "AC/DC|b"}) == "AC_DC+b/x-000.png"


def test_the_same_clips_give_the_same_files(tmp_path):
    packed, rows = labelled("high", "high", "low", "low")
    for name in ("one", "two"):
        images.write_images(packed, rows, CONFIG, tmp_path / name)
        images.zip_folder(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_labels_of_any_kind_have_a_folder(tmp_path):
    packed, rows = labelled("AC/DC", "x", "bird|rain", "")
    images.write_images(packed, rows, CONFIG, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"AC_DC", "bird+rain", "unlabelled"}
    assert faults(images.validate(tmp_path, rows)) == set()
    assert images.read_images(tmp_path, rows, SIZE)[[0, 2, 3]].any(axis=(1, 2)).all()


def test_labels_whose_folders_have_one_name_keep_their_images_apart(tmp_path):
    packed, rows = labelled("a|b", "x", "a+b", "a/b")
    rows.loc[3, "label"] = "a+b"
    images.write_images(packed, rows, CONFIG, tmp_path)
    assert (
        images.validate(tmp_path, rows)["images"] == 3
        and faults(images.validate(tmp_path, rows)) == set()
    )
    np.testing.assert_array_equal(
        features.unpack(images.read_images(tmp_path, rows, SIZE)[2]),
        picture(features.unpack(packed[2]))[0],
    )


def test_a_file_of_another_size_or_mode_is_refused(tmp_path):
    packed, rows = labelled("high", "high", "low", "low")
    images.write_images(packed, rows, CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"expected 16 x 16 levels, got \(32, 32\) P"):
        images.read_images(tmp_path, rows, 16)
    path = tmp_path / images.image_path(rows.iloc[2])
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(ValueError, match=rf"{rows['clip_id'][2]}.png: .* RGB"):
        images.read_images(tmp_path, rows, SIZE)


def test_no_training_clips_give_no_images(tmp_path):
    packed, rows = labelled("high", "high", "low", "low")
    rows["split"] = "test"
    assert images.write_images(packed, rows, CONFIG, tmp_path) == 0
    assert not images.read_images(tmp_path, rows, SIZE).any()
    assert (
        images.validate(tmp_path, rows)["images"] == 0
        and faults(images.validate(tmp_path, rows)) == set()
    )


def test_equal_folders_give_equal_archives(tmp_path):
    for name in ("one", "two"):
        for file in ("b/2.png", "a/1.png") if name == "one" else ("a/1.png", "b/2.png"):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(file.encode())
        images.zip_folder(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    (tmp_path / "two/a/1.png").write_bytes(b"other")
    images.zip_folder(tmp_path / "two", tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() != (tmp_path / "two.zip").read_bytes()


def test_an_archive_unpacks_to_the_folder(tmp_path):
    contents = {"a b/1.png": b"one", "ü/2.png": b"two"}
    for name, content in contents.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_bytes(content)
    images.zip_folder(tmp_path / "in", tmp_path / "images.zip")
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        archive.extractall(tmp_path / "out")
    out = tmp_path / "out"
    found = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file()
    }
    assert found == contents


# --- validation --------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    """Three images, and what validation is asked with: folder and rows."""
    packed, rows = labelled("high", "high", "low", "low")
    images.write_images(packed, rows, CONFIG, tmp_path)
    return tmp_path, rows


def faults(found):
    """What validation complains about: the names of its lists that are not empty."""
    return {name for name, listed in found.items() if name != "images" and listed}


def image_of(written, row=0):
    return written[0] / images.image_path(written[1].iloc[row])


def test_nothing_is_wrong_with_what_was_written(written):
    found = images.validate(*written)
    assert faults(found) == set() and found["images"] == 3


def cut_short(written):
    image_of(written).write_bytes(image_of(written).read_bytes()[:-200])


def emptied(written):
    image_of(written).write_bytes(b"")


def text_instead(written):
    image_of(written).write_text("not a picture")


def flipped_byte(written):
    content = bytearray(image_of(written).read_bytes())
    content[-60] ^= 0xFF  # within the pixels
    image_of(written).write_bytes(content)


def missing(written):
    image_of(written).unlink()


def stray(written):
    (written[0] / "unknown").mkdir()
    images.to_png(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(
        written[0] / "unknown" / "stray.png"
    )


def stray_in_a_class(written):
    images.to_png(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(
        image_of(written).with_name("stray.png")
    )


def stray_at_the_top(written):
    images.to_png(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(written[0] / "stray.png")


def stray_text(written):
    (written[0] / "notes.txt").write_text("what is this?")


def stray_folder(written):
    (written[0] / "unknown").mkdir()


def twin(written):
    image_of(written, 3).write_bytes(image_of(written).read_bytes())


def twin_in_another_file_format(written):
    with Image.open(image_of(written)) as image:
        image.save(image_of(written, 3), compress_level=0)


def test_an_image_of_the_test_side_does_not_belong(written):
    images.to_png(np.zeros((SIZE, SIZE), np.uint8)).save(image_of(written, 1))
    assert images.validate(*written)["unexpected_names_or_folders"] == [
        images.image_path(written[1].iloc[1])
    ]


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (cut_short, "corrupted_images"),
        (emptied, "corrupted_images"),
        (text_instead, "corrupted_images"),
        (flipped_byte, "corrupted_images"),
        (missing, "missing_images"),
        (stray, "unexpected_names_or_folders"),
        (stray_in_a_class, "unexpected_names_or_folders"),
        (stray_at_the_top, "unexpected_names_or_folders"),
        (stray_text, "unexpected_names_or_folders"),
        (stray_folder, "unexpected_names_or_folders"),
        (twin, "equal_images"),
        (twin_in_another_file_format, "equal_images"),
    ],
)
def test_validation_finds_what_is_broken_and_nothing_else(written, damage, complaint):
    damage(written)
    found = images.validate(*written)
    assert faults(found) == {complaint} and len(found[complaint]) == 1


def test_what_validation_lists_names_the_file(written):
    name = images.image_path(written[1].iloc[0])
    twin(written)
    assert images.validate(*written)["equal_images"] == [
        sorted([name, images.image_path(written[1].iloc[3])])
    ]
    text_instead(written)
    assert images.validate(*written)["corrupted_images"][0].startswith(name + ": ")
    missing(written)
    assert images.validate(*written)["missing_images"] == [name]


def test_validation_survives_a_byte_flipped_anywhere(written):
    path, whole = image_of(written), image_of(written).read_bytes()
    for position in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        assert faults(images.validate(*written)) <= {"corrupted_images"}


def test_validation_survives_a_flipped_byte_in_the_head_of_any_part_of_the_file(written):
    path, whole = image_of(written), image_of(written).read_bytes()
    for name in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
        for position in range(whole.index(name) - 4, whole.index(name) + 4):
            for flips in (0x01, 0x55, 0xFF):
                damaged = bytearray(whole)
                damaged[position] ^= flips
                path.write_bytes(damaged)
                assert faults(images.validate(*written)) <= {"corrupted_images"}


# --- mirrored, turned and zoomed ---------------------------------------------------------------


def perturbed(batch, flip=0.0, rotate=0.0, zoom=0.0, seed=0):
    settings = Train(flip=flip, rotate=rotate, zoom=zoom)
    return perturb.turn_images(batch, settings, torch.Generator().manual_seed(seed))


@pytest.fixture
def batch():
    return torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(7))


def test_at_strength_zero_nothing_changes(batch):
    torch.testing.assert_close(perturbed(batch), batch, rtol=0, atol=1e-5)


def test_a_certain_flip_is_a_mirror_in_time(batch):
    torch.testing.assert_close(perturbed(batch, flip=1.0), batch.flip(-1), rtol=0, atol=1e-5)


def test_a_turned_and_zoomed_image_is_mirrored_as_a_whole(batch):
    mirrored, plain = (perturbed(batch, flip, rotate=0.2, zoom=0.3) for flip in (1.0, 0.0))
    torch.testing.assert_close(mirrored, plain.flip(-1), rtol=0, atol=1e-5)


def test_a_share_of_the_images_is_mirrored():
    many = torch.rand(400, 4, 4, generator=torch.Generator().manual_seed(7))
    found = perturbed(many, flip=0.3)
    mirrored = (found - many.flip(-1)).abs().amax(dim=(1, 2)) < 1e-5
    assert float(mirrored.float().mean()) == pytest.approx(0.3, abs=0.07)
    torch.testing.assert_close(found[~mirrored], many[~mirrored], rtol=0, atol=1e-5)


@law
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.9))
def test_values_stay_in_the_inputs_range_and_an_even_image_stays_even(seed, flip, rotate, zoom):
    images_in = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    found = perturbed(images_in, flip, rotate, zoom, seed)
    assert found.shape == images_in.shape and found.dtype == images_in.dtype
    for before, after in zip(images_in, found, strict=True):
        assert before.min() - 1e-5 <= after.min() and after.max() <= before.max() + 1e-5
    even = torch.full((2, 12, 12), 0.25)
    torch.testing.assert_close(perturbed(even, flip, rotate, zoom, seed), even)


def test_the_same_seed_gives_the_same_images_and_the_input_is_not_touched(batch):
    before, torch_state = batch.clone(), torch.get_rng_state()
    strength = {"flip": 0.5, "rotate": 0.2, "zoom": 0.3}
    assert torch.equal(perturbed(batch, **strength, seed=1), perturbed(batch, **strength, seed=1))
    assert not torch.equal(
        perturbed(batch, **strength, seed=1), perturbed(batch, **strength, seed=2)
    )
    assert torch.equal(batch, before) and torch.equal(torch.get_rng_state(), torch_state)


def test_every_image_draws_for_itself(batch):
    alike = batch[:1].expand(4, -1, -1)
    found = perturbed(alike, rotate=0.2, zoom=0.3)
    assert all(not torch.allclose(found[0], other, atol=1e-3) for other in found[1:])


@pytest.fixture
def certain(monkeypatch):
    """Every draw at the upper end of its range."""
    monkeypatch.setattr(
        perturb, "_uniform", lambda size, generator, low, high: torch.full((size, 1), high * 1.0)
    )


def test_a_quarter_turn_agrees_with_numpy(batch, certain):
    turned = perturbed(batch, rotate=0.25).numpy()
    quarters = [np.rot90(batch.numpy(), k, axes=(1, 2)) for k in (1, 3)]
    assert min(np.abs(turned - quarter).max() for quarter in quarters) < 1e-5


def test_a_half_turn_agrees_with_numpy(batch, certain):
    np.testing.assert_allclose(
        perturbed(batch, rotate=0.5), np.rot90(batch, 2, axes=(1, 2)), atol=1e-5
    )


def test_a_zoom_enlarges_around_the_middle(certain):
    spot = torch.zeros(1, 32, 32)
    spot[0, 12:20, 12:20] = 1.0
    found = perturbed(spot, zoom=0.5)
    assert float(found.sum()) == pytest.approx(64 * 1.5**2, rel=0.05)
    torch.testing.assert_close(found, found.flip(-1), rtol=0, atol=1e-5)
    assert found[0, 16, 16] == 1 and found[0, 0, 0] == 0
