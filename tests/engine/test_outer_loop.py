"""The outer loop: updates by hand, validation and patience, and training that was cut and went on."""

import math
from dataclasses import replace

import pytest
import torch

from mamlcli.common.errors import NonFiniteError
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import StepRecord, StopRecord, ValidationRecord, train
from mamlcli.engine.state import OuterLoop, new_state, restore_state
from tests.helpers.outer_loops import copies, noisy_gradient, run, start, train_one

# Updates


def test_sgd_steps_are_the_hand_computation():
    outer = OuterLoop(num_outer_steps=4, lr=0.05, optimizer="sgd")
    expected = copies(start().flat())
    for iteration in range(4):
        gradients = noisy_gradient(MetaParams.from_flat(expected), iteration).gradients
        expected = {name: value - 0.05 * gradients[name] for name, value in expected.items()}
    state = new_state(start(), outer)
    run(state, outer)
    for name, value in expected.items():
        assert torch.allclose(state.params[name], value, rtol=1e-14, atol=0)  # the same operations


def adam_by_hand(gradient, lrs):
    """Return the meta-parameters after len(lrs) Adam steps (Kingma and Ba 2015, algorithm 1)."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    params = copies(start().flat())
    first = {name: torch.zeros_like(value) for name, value in params.items()}
    second = copies(first)
    for t, lr in enumerate(lrs, start=1):
        gradients = gradient(MetaParams.from_flat(params), t - 1).gradients
        for name, g in gradients.items():
            first[name] = beta1 * first[name] + (1 - beta1) * g
            second[name] = beta2 * second[name] + (1 - beta2) * g**2
            corrected_first = first[name] / (1 - beta1**t)
            corrected_second = second[name] / (1 - beta2**t)
            params[name] = params[name] - lr * corrected_first / (corrected_second.sqrt() + epsilon)
    return params


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_adam_steps_are_the_hand_computation(schedule):
    outer = OuterLoop(num_outer_steps=5, lr=0.05, schedule=schedule)
    lrs = [0.05] * 5
    if schedule == "cosine":
        lrs = [0.025 * (1 + math.cos(math.pi * i / 5)) for i in range(5)]
    state = new_state(start(), outer)
    records = run(state, outer)
    assert [record.lr for record in records] == pytest.approx(lrs, rel=1e-14)
    for name, value in adam_by_hand(noisy_gradient, lrs).items():
        # Torch rounds the bias corrections in another order.
        assert torch.allclose(state.params[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_shrinks_the_initialisation_and_leaves_the_transform(optimizer):
    # With no gradient Adam and SGD stand still, and what moves is the decay: theta (1 - lr_t lambda) in each step.
    def nothing(meta, iteration):
        result = noisy_gradient(meta, iteration)
        return replace(result, gradients={name: torch.zeros_like(g) for name, g in result.gradients.items()})

    outer = OuterLoop(2, 0.2, optimizer, "cosine", lr_min=0.1, weight_decay=0.5)
    state = new_state(start(), outer)
    run(state, outer, gradient=nothing)
    kept = (1 - 0.2 * 0.5) * (1 - 0.15 * 0.5)  # halfway through the cosine schedule the rate is 0.15
    for name, value in start().flat().items():
        expected = value * kept if name.startswith("model/") else value
        assert torch.allclose(state.params[name], expected, rtol=1e-14, atol=0)


def test_decayed_adam_steps_are_those_of_adamw():
    # Loshchilov and Hutter 2019 as torch has it, on theta alone; Adam on xi.
    outer = OuterLoop(num_outer_steps=5, lr=0.05, weight_decay=0.3)
    expected = copies(start().flat())
    by_torch = torch.optim.AdamW(
        [
            {"params": [value for name, value in expected.items() if name.startswith("model/")], "weight_decay": 0.3},
            {"params": [value for name, value in expected.items() if name.startswith("transform/")]},
        ],
        lr=0.05,
        weight_decay=0.0,
    )
    for iteration in range(5):
        gradients = noisy_gradient(MetaParams.from_flat(expected), iteration).gradients
        for name, value in expected.items():
            value.grad = gradients[name]
        by_torch.step()
    state = new_state(start(), outer)
    run(state, outer)
    for name, value in expected.items():
        assert torch.allclose(state.params[name], value, rtol=1e-13, atol=1e-15)
    plain = new_state(start(), replace(outer, weight_decay=0.0))
    run(plain, replace(outer, weight_decay=0.0))
    assert not torch.allclose(state.params["model/w"], plain.params["model/w"], rtol=1e-2)


@pytest.mark.parametrize("clip_norm", [0.5, 1e3, None])
def test_clipping_scales_a_meta_gradient_down_to_the_norm(clip_norm):
    outer = OuterLoop(num_outer_steps=1, lr=1.0, optimizer="sgd", clip_norm=clip_norm)
    gradients = noisy_gradient(start(), 0).gradients
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
    assert 0.5 < norm < 1e3
    state = new_state(start(), outer)
    (record,) = run(state, outer)
    scale = 0.5 / norm if clip_norm == 0.5 else 1.0
    for name, value in start().flat().items():
        assert torch.allclose(state.params[name], value - scale * gradients[name], rtol=0, atol=1e-14)
    assert record.grad_norm == pytest.approx(norm, rel=1e-14)  # before clipping


def test_step_record_says_what_was_before_the_update():
    outer = OuterLoop(num_outer_steps=3, lr=0.1)
    before = noisy_gradient(start(), 0)
    first, *_, last = run(new_state(start(), outer), outer)
    assert (first.iteration, last.iteration) == (1, 3)
    assert first.outer_loss == pytest.approx(float(before.outer_loss.mean()), rel=1e-14)
    assert first.accuracy == pytest.approx(float(before.accuracy.mean()), rel=1e-14)


def test_step_record_of_regression_has_no_accuracy():
    def gradient(meta, iteration):
        result = noisy_gradient(meta, iteration)
        return replace(result, accuracy=torch.full_like(result.accuracy, math.nan))

    outer = OuterLoop(num_outer_steps=1, lr=0.1)
    (record,) = run(new_state(start(), outer), outer, gradient=gradient)
    assert record.accuracy is None


def test_no_steps_are_no_records():
    outer = OuterLoop(num_outer_steps=0, lr=0.1)
    assert run(new_state(start(), outer), outer) == []


# Validation, the best, patience


def scripted(scores):
    """Return a validation that gives these (loss, accuracy) one after the other."""
    remaining = iter(scores)
    return lambda meta: next(remaining)


def validations(records):
    return [record for record in records if isinstance(record, ValidationRecord)]


def test_validation_comes_every_so_many_steps_and_at_the_end():
    outer = OuterLoop(num_outer_steps=7, lr=0.1, validate_every=3)
    state = new_state(start(), outer)
    records = run(state, outer, lambda meta: (1.0, 0.5))
    kinds = ["v" if isinstance(record, ValidationRecord) else "s" for record in records]
    assert "".join(kinds) == "sssvsssvsv"
    assert [record.iteration for record in validations(records)] == [3, 6, 7]


def test_validation_at_the_last_step_comes_once():
    outer = OuterLoop(num_outer_steps=6, lr=0.1, validate_every=3)
    records = run(new_state(start(), outer), outer, lambda meta: (1.0, 0.5))
    assert [record.iteration for record in validations(records)] == [3, 6]


def test_validation_sees_the_updated_meta_parameters():
    outer = OuterLoop(num_outer_steps=2, lr=0.1, validate_every=1)
    state, seen = new_state(start(), outer), []
    for record in train_one(
        state, noisy_gradient, lambda meta: (seen.append(meta.model["w"].clone()) or 1.0, None), outer=outer
    ):
        if isinstance(record, ValidationRecord):
            assert torch.equal(seen[-1], state.params["model/w"])
    assert len(seen) == 2
    assert not torch.equal(seen[0], seen[1])


def test_best_is_the_highest_accuracy_whatever_the_loss():
    outer = OuterLoop(num_outer_steps=5, lr=0.1, validate_every=1)
    state = new_state(start(), outer)
    scores = [(1.0, 0.3), (9.0, 0.5), (0.1, 0.4), (0.1, 0.5), (9.0, 0.6)]
    records = validations(run(state, outer, scripted(scores)))
    # The first is a best; an equal score is none.
    assert [record.is_best for record in records] == [True, True, False, False, True]
    assert (state.best_score, state.best_iteration) == (0.6, 5)


def test_best_of_regression_is_the_lowest_loss():
    outer = OuterLoop(num_outer_steps=4, lr=0.1, validate_every=1)
    state = new_state(start(), outer)
    records = validations(run(state, outer, scripted([(2.0, None), (3.0, None), (1.0, None), (1.5, None)])))
    assert [record.is_best for record in records] == [True, False, True, False]
    assert (state.best_score, state.best_iteration) == (-1.0, 3)


def test_loss_that_is_not_a_number_is_never_the_best():
    outer = OuterLoop(num_outer_steps=3, lr=0.1, validate_every=1)
    state = new_state(start(), outer)
    records = validations(run(state, outer, scripted([(math.nan, None), (2.0, None), (math.nan, None)])))
    assert [record.is_best for record in records] == [False, True, False]
    assert state.best_iteration == 2


def test_training_stops_after_patience_validations_without_a_best():
    outer = OuterLoop(num_outer_steps=20, lr=0.1, validate_every=2, patience=3)
    state = new_state(start(), outer)
    accuracies = [0.3, 0.2, 0.2, 0.4, 0.1, 0.4, 0.3, 0.9]
    records = run(state, outer, scripted([(1.0, accuracy) for accuracy in accuracies]))
    # Bests at validations 1 and 4; then three without, at iterations 10, 12 and 14.
    assert records[-1] == StopRecord(14, 3)
    assert state.iteration == 14
    assert state.best_iteration == 8
    assert sum(isinstance(record, StepRecord) for record in records) == 14


def test_training_without_patience_never_stops_early():
    outer = OuterLoop(num_outer_steps=6, lr=0.1, validate_every=1)
    records = run(new_state(start(), outer), outer, lambda meta: (1.0, 0.5))
    assert not any(isinstance(record, StopRecord) for record in records)
    assert records[-1].iteration == 6


# Numbers that are none


def broken_at(iteration, *, loss=None, parameter=None):
    """Return a gradient function that fails at one iteration: the loss of task 1, or a gradient's entry."""

    def gradient(meta, i):
        result = noisy_gradient(meta, i)
        if i == iteration:
            if loss is not None:
                result.outer_loss[1] = loss
            if parameter is not None:
                result.gradients[parameter].view(-1)[0] = math.nan
        return result

    return gradient


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_training_and_names_its_task(loss):
    outer = OuterLoop(num_outer_steps=5, lr=0.1, seed=42)
    message = (
        rf"iteration 3: expected finite losses and meta-gradients, got an outer loss of {loss} on the task of "
        r"key \(seed 42, split train, iteration 2, task 1\)\. .*inner\.lr.*Lower inner\.lr"
    )
    with pytest.raises(NonFiniteError, match=message):
        run(new_state(start(), outer), outer, gradient=broken_at(2, loss=loss))


def test_gradient_that_is_not_finite_stops_training_and_names_its_parameter():
    outer = OuterLoop(num_outer_steps=5, lr=0.1)
    message = r"iteration 2: .*non-finite meta-gradient of transform/w/scale \(1 of 3 tensors\)"
    with pytest.raises(NonFiniteError, match=message):
        run(new_state(start(), outer), outer, gradient=broken_at(1, parameter="transform/w/scale"))


def test_loss_and_gradient_that_are_not_finite_are_both_named():
    outer = OuterLoop(num_outer_steps=5, lr=0.1)
    broken = broken_at(0, loss=math.inf, parameter="model/b")
    with pytest.raises(NonFiniteError, match=r"outer loss of inf .* non-finite meta-gradient of model/b"):
        run(new_state(start(), outer), outer, gradient=broken)


def test_meta_gradient_whose_norm_overflows_is_said_to():
    def gradient(meta, iteration):
        result = noisy_gradient(meta, iteration)
        return replace(result, gradients={n: 1e200 * g for n, g in result.gradients.items()})

    # Every entry is finite, its square is not.
    outer = OuterLoop(num_outer_steps=1, lr=0.1)
    with pytest.raises(NonFiniteError, match=r"got meta-gradients whose norm overflows"):
        run(new_state(start(), outer), outer, gradient=gradient)


@pytest.mark.parametrize("broken", [{"loss": math.nan}, {"parameter": "model/w"}])
def test_state_after_a_failure_is_that_before_the_update(broken):
    outer = OuterLoop(num_outer_steps=5, lr=0.1, schedule="cosine", weight_decay=0.2)
    failed, short = new_state(start(), outer), new_state(start(), outer)
    with pytest.raises(NonFiniteError):
        run(failed, outer, gradient=broken_at(3, **broken))
    records = train_one(short, noisy_gradient, None, outer=outer)
    for _ in range(3):
        next(records)
    assert_same_state(failed, short)
    assert failed.iteration == 3


# Cut and continued


def assert_same_state(found, expected):
    """Check that two states export the same, bit for bit."""
    tensors, primitives = found.export()
    expected_tensors, expected_primitives = expected.export()
    assert primitives == expected_primitives
    assert tensors.keys() == expected_tensors.keys()
    assert all(torch.equal(tensors[name], value) for name, value in expected_tensors.items())


def scoring(meta):
    """Return a validation score that depends on the meta-parameters alone, and goes up and down."""
    value = float(sum(v.sum() for v in meta.flat().values()))
    return value**2, 0.5 + 0.5 * math.sin(20 * value)


def train_with_cuts(outer, cuts, meta=None):
    """Return (records, state), the state exported and restored into a new one after each cut's record."""
    meta = meta or start()
    state, records = new_state(meta, outer), []
    stream = train_one(state, noisy_gradient, scoring, outer=outer)
    while True:
        record = next(stream, None)
        if record is None:
            return records, state
        records.append(record)
        if len(records) in cuts:
            exported = state.export()
            # The start given here must not matter: only names, devices and dtypes are read.
            other = MetaParams.from_flat({name: 7 * value for name, value in meta.flat().items()})
            state = restore_state(other, outer, *exported)
            stream = train_one(state, noisy_gradient, scoring, outer=outer)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_training_goes_on_bit_for_bit_wherever_it_was_cut(optimizer, schedule):
    # Six steps and the validations after 2, 4 and 6: nine records. A cut after record 2 is between a step and
    # its validation, one after 9 is at the end.
    outer = OuterLoop(6, 0.1, optimizer, schedule, weight_decay=0.2, validate_every=2, clip_norm=1.0)
    expected, whole = train_with_cuts(outer, ())
    assert len(expected) == 9
    assert any(record.is_best for record in validations(expected))
    for cut in range(1, 10):
        records, state = train_with_cuts(outer, (cut,))
        assert records == expected, f"cut after record {cut}"
        assert_same_state(state, whole)
    records, state = train_with_cuts(outer, range(1, 10))
    assert records == expected
    assert_same_state(state, whole)


def test_float32_training_goes_on_bit_for_bit():
    meta = MetaParams.from_flat({name: value.float() for name, value in start().flat().items()})
    outer = OuterLoop(num_outer_steps=6, lr=0.1)
    expected, whole = train_with_cuts(outer, (), meta)
    records, state = train_with_cuts(outer, (3,), meta)
    assert records == expected
    assert_same_state(state, whole)


def test_patience_counts_on_after_a_cut():
    outer = OuterLoop(20, 0.1, validate_every=1, patience=2)
    expected, whole = train_with_cuts(outer, ())
    assert isinstance(expected[-1], StopRecord)
    for cut in range(1, len(expected)):
        records, state = train_with_cuts(outer, (cut,))
        assert records == expected, f"cut after record {cut}"
        assert_same_state(state, whole)


# Several states


def noisy_gradients(indices, metas, iteration):
    """Return for each state the gradient that it has alone."""
    return [noisy_gradient(meta, iteration) for meta in metas]


def several(number, outer):
    """Return states with meta-parameters of their own, and their settings."""
    metas = [MetaParams.from_flat({n: v + i for n, v in start().flat().items()}) for i in range(number)]
    return {i: new_state(meta, outer) for i, meta in enumerate(metas)}, dict.fromkeys(range(number), outer)


def scoring_each(_, metas):
    return [scoring(meta) for meta in metas]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_states_trained_together_end_as_each_does_alone(optimizer, weight_decay):
    outer = OuterLoop(6, 0.1, optimizer, weight_decay=weight_decay, validate_every=4, clip_norm=1.0)
    states, outers = several(3, outer)
    together = list(train(states, outers, noisy_gradients, scoring_each))
    for index, alone in several(3, outer)[0].items():
        records = run(alone, outer, scoring)
        found = [record for number, record in together if number == index]
        assert [type(record) for record in found] == [type(record) for record in records]
        assert [r.iteration for r in found] == [r.iteration for r in records]
        for name, value in alone.params.items():
            # Only the norm's sum has another order.
            assert torch.allclose(states[index].params[name], value, rtol=1e-12, atol=1e-14)


def test_state_that_is_behind_meets_the_others_before_they_go_on():
    outer = OuterLoop(num_outer_steps=4, lr=0.1)
    states, outers = several(2, outer)
    run_two = train_one(states[1], noisy_gradient, outer=outer)
    for _ in range(2):
        next(run_two)
    order = [(index, r.iteration) for index, r in train(states, outers, noisy_gradients, scoring_each)]
    assert order == [(0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (1, 4)]


def test_state_that_is_taken_out_is_trained_no_further():
    states, outers = several(2, OuterLoop(num_outer_steps=4, lr=0.1))
    taken, iterations = states[0], []
    for index, record in train(states, outers, noisy_gradients, scoring_each):
        iterations.append((index, record.iteration))
        if record.iteration == 2:
            states.pop(0, None)
    assert iterations == [(0, 1), (1, 1), (0, 2), (1, 2), (1, 3), (1, 4)]
    assert taken.iteration == 2


def test_state_that_diverges_leaves_the_others_as_they_are():
    outer = OuterLoop(num_outer_steps=4, lr=0.1)
    states, outers = several(2, outer)

    def gradients(indices, metas, iteration):
        broken = broken_at(1, loss=math.inf)
        return [(broken if i == 0 else noisy_gradient)(meta, iteration) for i, meta in zip(indices, metas, strict=True)]

    records = list(train(states, outers, gradients, scoring_each))
    errors = [(index, str(record)) for index, record in records if isinstance(record, NonFiniteError)]
    assert [index for index, _ in errors] == [0]
    assert "iteration 2" in errors[0][1]
    assert (states[0].iteration, states[1].iteration) == (1, 4)
    alone = several(2, outer)[0][1]
    run(alone, outer)
    assert all(torch.allclose(states[1].params[n], v, rtol=1e-12, atol=1e-14) for n, v in alone.params.items())
