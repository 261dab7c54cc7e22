"""The digits model and its loop in one process: shapes, seeds, readability."""

import pytest
import torch

from inference.samples.digits import train, weights
from inference.samples.digits.model import Shape, to_images, to_tokens
from inference.samples.digits.sampler import denoise, noise


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small a model only loses time to threads, the more the busier the machine is."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return weights.load()


def test_tokens_turn_back_into_the_images_they_came_from():
    images = torch.arange(2 * 8 * 8, dtype=torch.float32).view(2, 8, 8)
    tokens = to_tokens(images, patch=2)
    assert tokens.shape == (2, 16, 4)
    assert tokens[0, 1].tolist() == [2, 3, 10, 11]
    assert torch.equal(to_images(tokens, patch=2), images)


def test_a_sample_does_not_depend_on_how_many_are_drawn_beside_it():
    assert torch.equal(noise(seed=5, count=7, size=8)[:2], noise(seed=5, count=2, size=8))


def test_the_loop_yields_one_state_per_step_and_ends_where_a_straight_flow_leads():
    start, end = torch.ones(1, 4, 4), torch.full((1, 4, 4), 0.25)
    states = list(denoise(lambda state, time: start - end, start, steps=7))
    assert len(states) == 7
    assert torch.allclose(states[-1], end)


def test_a_shape_says_over_how_many_ranks_it_splits():
    assert [world for world in range(1, 17) if Shape().splits_over(world)] == [1, 2, 4, 8]


def test_random_weights_of_any_shape_are_the_same_on_every_rank():
    shape = Shape(width=32, depth=2, heads=4, size=16)
    once, again = weights.random(shape).state_dict(), weights.random(shape).state_dict()
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["project.weight"], weights.random(shape, seed=1).state_dict()["project.weight"])


def test_saved_weights_come_back_with_their_shape(tmp_path):
    model = weights.random(Shape(width=16, depth=1, heads=2))
    weights.save(model, tmp_path / "small.safetensors")
    loaded = weights.load(tmp_path / "small.safetensors")
    assert loaded.shape == model.shape
    assert torch.allclose(loaded.positions, model.positions, atol=1e-3)


def test_the_committed_weights_are_small():
    assert weights.COMMITTED.stat().st_size < 5_000_000


def test_a_picture_has_the_asked_count_and_size_and_no_value_outside_its_range(model):
    drawn = train.draw(model, digit=3, seed=1, count=3, steps=2)
    assert drawn.shape == (3, 8, 8)
    assert drawn.abs().max() <= 1


@pytest.mark.parametrize("steps", [1, 200])
def test_the_shortest_and_the_longest_walk_give_finite_pictures(model, steps):
    assert torch.isfinite(train.draw(model, digit=0, seed=0, steps=steps)).all()


def test_another_seed_gives_another_picture_of_the_same_digit(model):
    one, other = train.draw(model, digit=8, seed=1), train.draw(model, digit=8, seed=2)
    assert (one - other).abs().max() > 0.2


@pytest.mark.long
def test_a_classifier_trained_on_real_digits_reads_at_least_95_percent_as_asked(model):
    assert train.share_read_as_asked(model, seeds=range(100, 108)) >= 0.95


def test_a_short_training_lowers_the_loss_and_repeats_with_its_seed(capsys):
    shape = Shape(width=16, depth=1, heads=2)
    once, again = train.train(shape, steps=20, seed=3), train.train(shape, steps=20, seed=3)
    assert torch.equal(once.project.weight, again.project.weight)
    assert "step 20/20  loss" in capsys.readouterr().out
