"""What training leaves on disk: networks that are what they say, and states that come back to the
last bit or not.
"""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import noise, small_config

from helpers.base import artifacts
from helpers.models import checkpoints, networks

law = settings(deadline=None, max_examples=40, derandomize=True)
LABELS = ["high", "low"]
TURN = {"test": 3, "validation": None, "train": (1, 2)}


# --- finished networks -------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A classifier with fitted standardisation and the folder it was saved to: (model, folder,
    config).
    """
    config = small_config(train={"epochs": 1})
    torch.manual_seed(0)
    model = networks.build(config, len(LABELS))
    model.fit_standardisation([(torch.from_numpy(noise(8000)).reshape(2, 4000), None)])
    checkpoints.save(model, tmp_path / "fold3", LABELS, config, TURN, ended="epochs")
    return model.eval(), tmp_path / "fold3", config


def test_a_loaded_model_gives_the_logits_of_the_saved_one(saved):
    model, folder, config = saved
    loaded, card = checkpoints.load(folder, config)
    waveforms = torch.from_numpy(noise(8000, 1)).reshape(2, 4000)
    with torch.no_grad():
        torch.testing.assert_close(loaded(waveforms), model(waveforms), rtol=1e-6, atol=1e-6)
    assert not loaded.training
    assert card["labels"] == LABELS and card["folds"] == {
        "test": 3,
        "validation": None,
        "train": [1, 2],
    }
    assert card["parameters"] == networks.count_parameters(model)
    assert card["ended"] == "epochs" and card["origin"] == "random"


@pytest.mark.parametrize("position", [0, 0.5, 0.999])
def test_a_flipped_byte_in_the_weights_is_refused(saved, position):
    _, folder, config = saved
    flip(folder / "weights.safetensors", position)
    with pytest.raises(artifacts.DamagedFile, match=r"weights\.safetensors is damaged"):
        checkpoints.load(folder, config)


def test_saving_again_replaces_the_model_as_a_whole(saved):
    model, folder, config = saved
    checkpoints.save(
        model, folder, LABELS, config, {"test": 1, "validation": None, "train": (2, 3)}
    )
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "weights.safetensors"]
    assert artifacts.read_json(folder / "card.json")["folds"]["test"] == 1
    assert [path.name for path in folder.parent.iterdir()] == ["fold3"]


# --- trainings under way -----------------------------------------------------------------------


def flip(path, position, bit=1):
    """Turn a bit of a file around, so far into it (a share)."""
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= bit
    path.write_bytes(content)


def same(one, other):
    """Whether two trees are equal to the last bit; tuples count as lists, which they come back
    as.
    """
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other and type(one) is type(other)


plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
kinds = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
tensors = st.builds(
    lambda kind, shape: (torch.arange(math.prod(shape)) % 7 / 3).reshape(shape).to(kind),
    kinds,
    st.sampled_from([(), (0,), (3,), (2, 3), (1, 2, 2)]),
)
trees = st.recursive(
    plain | tensors,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), below)
    ),
    max_leaves=12,
)


@law
@given(trees)
def test_a_tree_comes_back_to_the_last_bit_with_its_keys_and_types(tmp_path_factory, tree):
    kept = checkpoints.Checkpoint(tmp_path_factory.mktemp("kept") / "state.safetensors", "digest")
    kept.write({"tree": tree})
    assert same(kept.read(), {"tree": tree})


@pytest.fixture
def kept(tmp_path):
    """A checkpoint of an optimiser at work: (checkpoint, what was written)."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).sum().backward()
    optimiser.step()
    history = [{"epoch": 1, "loss": 0.1 + 0.2}]
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": history,
        "best": math.inf,
    }
    found = checkpoints.Checkpoint(tmp_path / "deep" / "er" / "fold1.safetensors", "digest")
    found.write(state)
    return found, state


def test_an_optimiser_goes_on_from_what_was_written(kept):
    checkpoint, state = kept
    found = checkpoint.read()
    assert same(found, state)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    optimiser.load_state_dict(found["optimiser"])
    assert (
        same(optimiser.state_dict(), state["optimiser"]) and optimiser.param_groups[0]["lr"] == 0.1
    )


def test_tensors_that_share_their_memory_come_back_as_they_are(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    state = {"one": whole, "again": whole, "row": whole[1], "turned": whole.T}
    checkpoint = checkpoints.Checkpoint(tmp_path / "state.safetensors", "digest")
    checkpoint.write(state)
    assert same(checkpoint.read(), state)


def test_there_is_nothing_to_read_where_nothing_was_written(tmp_path):
    assert checkpoints.Checkpoint(tmp_path / "none.safetensors", "digest").read() is None
    assert checkpoints.Checkpoint(tmp_path, "digest").read() is None


def test_the_state_of_another_training_is_not_taken_up(kept):
    checkpoint, _ = kept
    assert checkpoints.Checkpoint(checkpoint.path, "another").read() is None


def test_a_bit_flipped_anywhere_is_noticed(kept):
    checkpoint, _ = kept
    whole = checkpoint.path.read_bytes()
    for position in range(0, len(whole), 11):
        for bit in (0x01, 0x40):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            checkpoint.path.write_bytes(damaged)
            assert checkpoint.read() is None, f"byte {position} of {len(whole)}"


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_not_taken_up(kept, share):
    checkpoint, _ = kept
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: int(share * len(whole))])
    assert checkpoint.read() is None


def test_a_file_of_something_else_is_not_taken_up(kept):
    checkpoint, _ = kept
    checkpoint.path.write_bytes(b"no state at all, but some text")
    assert checkpoint.read() is None


def test_nothing_is_pickled(kept, monkeypatch):
    """The file is JSON and numbers; reading it runs no code that lies in it."""
    checkpoint, state = kept
    content = checkpoint.path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header["__metadata__"]) == {"digest", "tree", "sha256"} and json.loads(
        header["__metadata__"]["tree"]
    )
    for name in ("load", "loads", "Unpickler", "dump", "dumps", "Pickler"):
        monkeypatch.setattr(f"pickle.{name}", None)
    checkpoint.write(state)
    assert same(checkpoint.read(), state)


def test_what_cannot_be_written_as_plain_values_is_refused_and_leaves_the_old_state(kept):
    checkpoint, state = kept
    with pytest.raises(TypeError):
        checkpoint.write({"model": torch.nn.Linear(1, 1)})
    assert same(checkpoint.read(), state)
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["fold1.safetensors"]
