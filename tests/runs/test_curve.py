"""An adaptation curve in words: a table, one line, and a verdict."""

from __future__ import annotations

import dataclasses

from mamlcli.runs.curve import batch_norm_words, cost_text, curve_line, curve_table, step_words, task_words, verdict
from tests.helpers.reports import curve_report
from tests.helpers.run_folders import shown


def test_curve_in_one_line_is_on_a_scale_of_its_own_kind():
    assert curve_line(curve_report()) == "Query accuracy by inner step: 20.0 ▂▄▅▇ 80.0 %"
    assert curve_line(curve_report((1.4, 0.7, 0.0), has_accuracy=False)) == "Query loss by inner step: 1.400 █▅▁ 0.000"
    overflowed = curve_report((1.4, None), has_accuracy=False)
    assert curve_line(overflowed) == "Query loss by inner step: 1.400 █· -"


def test_table_has_every_step_then_references_and_chance():
    lines = [line.split() for line in shown(curve_table(curve_report()), 120).splitlines()]
    first = [line[0] for line in lines if line]
    assert first.index("0") < first.index("1") < first.index("3") < first.index("nearest") < first.index("chance")
    (final,) = (line for line in lines if line[:1] == ["3"])
    assert final[1:] == ["0.200", "±", "0.050", "100.0", "±", "5.0", "0.200", "±", "0.050", "80.0", "±", "5.0"]


def test_table_of_a_regression_has_no_accuracy():
    text = shown(curve_table(curve_report(has_accuracy=False)), 120)
    assert "query loss" in text
    assert "%" not in text.replace("95 %", "")
    assert "chance" not in text


def test_verdict_on_accuracy_says_how_far_it_is_above_what():
    assert verdict(curve_report()) == (
        "Query accuracy 80.0 ± 5.0 % after 3 inner steps on 600 test tasks: 60.0 points above chance (20 %), "
        "60.0 above the network before adaptation, 25.0 above nearest neighbour on pixels."
    )


def test_verdict_on_accuracy_below_a_reference_says_so():
    assert "15.0 below nearest neighbour on pixels" in verdict(curve_report((1.6, 0.5)))


def test_verdict_on_a_loss_names_the_references():
    assert verdict(curve_report((1.4, 0.7), has_accuracy=False)) == (
        "Query loss 0.700 ± 0.050 after 1 inner step on 600 test tasks, from 1.400. "
        "References: nearest neighbour on pixels 0.050."
    )


def test_verdict_on_a_loss_that_overflowed_says_so():
    assert verdict(curve_report((1.4, None), has_accuracy=False)).startswith("Query loss overflowed after 1 inner step")


def test_tasks_of_images_count_per_class_and_points_in_all():
    images = curve_report().protocol
    points = dataclasses.replace(images, per_class=False, shots=10)
    assert task_words(images) == task_words(images.to_json()) == "5-way 1-shot, 5 queries per class"
    assert task_words(points) == "10 support and 5 query points"


def test_batch_statistics_are_called_transductive():
    images = curve_report().protocol
    assert batch_norm_words(images) == "batch statistics (transductive)"
    assert batch_norm_words(dataclasses.replace(images, batch_norm="group", batch_norm_statistics=None)) == "group"


def test_statistics_of_the_support_set_are_told():
    protocol = dataclasses.replace(curve_report().protocol, batch_norm_statistics="support")
    assert batch_norm_words(protocol) == "statistics of the support set (not transductive)"
    report = dataclasses.replace(curve_report(), protocol=protocol)
    assert "batch norm: statistics of the support set (not transductive)" in str(curve_table(report).title)


def test_step_zero_is_called_before():
    assert [step_words(step) for step in (0, 1)] == ["0 (before)", "1"]


def test_cost_is_told_in_one_sentence():
    cost = {
        "device": "a processor",
        "num_parameters": 1234,
        "num_transform_parameters": 10,
        "seconds_per_iteration": 0.25,
        "training_s": 100.0,
        "evaluation_s": 20.0,
        "peak_memory_mb": None,
        "execution": {"path": "explicit", "chunk": 4, "threads": 2},
    }
    text = cost_text(cost, 400)
    assert text.startswith("1,234 parameters and 10 of the transform. On a processor, explicit with 4 tasks at a time")
    assert "250 ms a meta-iteration; 400 of them" in text
    assert "memory" not in text
    assert "about 300 MB of memory" in cost_text({**cost, "peak_memory_mb": 300.0}, 400)
