"""Batches: every row comes, or by its chances, beside its target; shuffled they are full; read from
disk one by one.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.training.batches import Batches

law = settings(deadline=None, max_examples=60, derandomize=True)


def numbered(n):
    """A packed array whose row i holds the number i."""
    return np.repeat(np.arange(n, dtype=np.int16)[:, None], 4, axis=1)


def seen(batches):
    """The row numbers of one pass in the order they came, and their labels."""
    passed = [(waveforms, labels) for waveforms, labels in batches]
    numbers = [
        round(value * 32768) for waveforms, _ in passed for value in waveforms[:, 0].tolist()
    ]
    return numbers, [label for _, labels in passed for label in labels.tolist()]


@law
@given(st.integers(1, 50), st.integers(2, 12), st.integers(0, 99))
def test_in_order_every_row_comes_once_with_its_own_label(n, batch_size, seed):
    rows = np.random.default_rng(seed).permutation(60)[:n]
    batches = Batches(numbered(60), rows, rows + 100, batch_size)
    sizes = [len(labels) for _, labels in batches]
    numbers, labels = seen(batches)
    assert numbers == rows.tolist() and labels == (rows + 100).tolist()
    assert (
        len(sizes) == len(batches)
        and all(size == batch_size for size in sizes[:-1])
        and 0 < sizes[-1] <= batch_size
    )


@law
@given(st.integers(2, 50), st.integers(2, 12), st.integers(0, 99))
def test_shuffled_all_batches_are_full_and_every_row_comes_once_or_twice_with_its_own_label(
    n, batch_size, seed
):
    rows = np.random.default_rng(seed).permutation(60)[:n]
    batches = Batches(
        numbered(60), rows, rows + 100, batch_size, generator=torch.Generator().manual_seed(seed)
    )
    sizes = [len(labels) for _, labels in batches]
    numbers, labels = seen(batches)
    assert sizes == [min(n, batch_size)] * len(batches) and len(batches) == math.ceil(
        n / batch_size
    )
    assert sorted(numbers[:n]) == sorted(rows.tolist())  # each once, before any comes again
    assert max(numbers.count(number) for number in set(numbers)) <= 2
    assert labels == [number + 100 for number in numbers]


@law
@given(st.integers(8, 50), st.integers(8, 12), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_the_shares_of_several_processes_are_disjoint_and_together_the_batch(
    n, batch_size, processes, drawn, seed
):
    chances = torch.ones(n) / n if drawn else None

    def passed(share):
        generator = torch.Generator().manual_seed(seed)
        return list(
            Batches(numbered(n), range(n), range(n), batch_size, "cpu", generator, chances, share)
        )

    shares = [passed((rank, processes)) for rank in range(processes)]
    for whole, *parts in zip(passed((0, 1)), *shares, strict=True):
        interleaved = torch.cat([labels for _, labels in parts]).sort().values
        assert torch.equal(interleaved, whole[1].sort().values)
        sizes = [len(labels) for _, labels in parts]
        assert max(sizes) - min(sizes) <= 1
        for waveforms, labels in parts:
            assert [round(value * 32768) for value in waveforms[:, 0].tolist()] == labels.tolist()


def test_waveforms_are_float_in_plus_minus_one_and_targets_stay_as_they_are():
    packed, targets = np.array([[16384, -32768, 0]], np.int16), np.array([[1, 0, 0.5]], np.float32)
    [(waveforms, found)] = Batches(packed, [0], targets, 8)
    assert waveforms.dtype == found.dtype == torch.float32
    assert waveforms.tolist() == [[0.5, -1.0, 0.0]] and found.tolist() == targets.tolist()


def test_images_are_float_from_0_to_1():
    packed = np.array([[[0, 51], [102, 255]], [[9, 9], [9, 9]]], np.uint8)
    [(images, _)] = Batches(packed, [0], [[1.0, 0.0]], 8)
    assert images.dtype == torch.float32 and images.shape == (1, 2, 2)
    torch.testing.assert_close(images[0], torch.tensor([[0.0, 0.2], [0.4, 1.0]]))


def test_with_chances_rows_come_back_as_often_as_they_are_likely():
    chances = torch.tensor([0.0, 0.25, 0.75], dtype=torch.float64).repeat_interleave(10) / 10
    batches = Batches(
        numbered(30),
        np.arange(30),
        np.arange(30),
        7,
        generator=torch.Generator().manual_seed(0),
        chances=chances,
    )
    drawn = [number for _ in range(60) for number in seen(batches)[0]]
    counts = np.bincount(drawn, minlength=30).reshape(3, 10).sum(axis=1)
    assert len(batches) == 5 and len(drawn) == 60 * 35  # a pass is as long as without chances
    assert counts[0] == 0 and counts[2] / counts[1] == pytest.approx(3, rel=0.2)
    numbers, targets = seen(batches)
    assert targets == numbers and len(set(numbers)) < 30  # each with its own target, some twice


def test_shuffling_repeats_with_the_generator_and_differs_from_pass_to_pass():
    def passes(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = Batches(numbered(40), np.arange(40), np.zeros(40, int), 8, generator=generator)
        return [seen(batches)[0] for _ in range(2)]

    first, second = passes(1)
    assert [first, second] == passes(1) and passes(1) != passes(2)
    assert first != second and first != sorted(first)


def test_a_last_batch_is_filled_up_only_when_shuffling():
    sizes = {
        shuffle: [
            len(labels)
            for _, labels in Batches(
                numbered(9),
                np.arange(9),
                np.zeros(9, int),
                4,
                generator=torch.Generator() if shuffle else None,
            )
        ]
        for shuffle in (False, True)
    }
    assert sizes == {False: [4, 4, 1], True: [4, 4, 4]}


def test_a_single_clip_cannot_be_learned_from_but_looked_at():
    with pytest.raises(ValueError, match="1 clips to learn from"):
        Batches(numbered(5), [3], [0], 2, generator=torch.Generator())
    assert seen(Batches(numbered(5), [3], [0], 2)) == ([3], [0])


def test_rows_and_targets_of_different_length_are_refused():
    with pytest.raises(ValueError, match="3 rows but 2 targets"):
        Batches(numbered(5), [0, 1, 2], [0, 1], 2)


class Watched:
    """An array that notes which rows are read."""

    def __init__(self, array):
        self.array, self.reads = array, []

    def __getitem__(self, index):
        self.reads.append(np.asarray(index).tolist())
        return self.array[index]


def test_only_the_rows_of_a_batch_are_read_and_only_when_it_is_due(tmp_path):
    np.save(tmp_path / "packed.npy", numbered(10))
    packed = Watched(np.load(tmp_path / "packed.npy", mmap_mode="r"))
    batches = iter(Batches(packed, [1, 3, 5, 7, 9], [0] * 5, 2))
    assert packed.reads == []
    waveforms, _ = next(batches)
    assert packed.reads == [[1, 3]]
    waveforms.zero_()  # a batch is a copy: the read-only file is not touched
    assert [len(labels) for _, labels in batches] == [2, 1] and packed.reads == [
        [1, 3],
        [5, 7],
        [9],
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "packed.npy"), numbered(10))


@pytest.mark.parametrize(("clips", "batch_size"), [(5, 32), (40, 5)])
def test_every_process_gets_two_clips_to_learn_from_or_none_begins(clips, batch_size):
    packed, generator = numbered(clips), torch.Generator()
    with pytest.raises(
        ValueError,
        match=f"{clips} clips to learn from in batches of {batch_size} among 3 processes",
    ):
        Batches(packed, range(clips), np.eye(clips), batch_size, "cpu", generator, share=(0, 3))
    two = Batches(packed, range(clips), np.eye(clips), batch_size, "cpu", generator, share=(1, 2))
    assert all(len(inputs) >= 2 for inputs, _ in two)
