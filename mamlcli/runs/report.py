"""Gives types to evaluation.json: the result of a run.

A report is made where a run is scored, written as JSON, and read back where it is listed, shown, compared, exported.
Reading is strict about every key that is used, and passes over the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mamlcli.common.json_reading import finite, items, mapping, maybe, text, truth, whole, wrong
from mamlcli.common.statistics import Score

# The scores of one point of the adaptation curve, in the order of the file. `loss` and `accuracy` are of query sets.
METRICS = ("loss", "support_loss", "accuracy", "support_accuracy")


_MOST_TASKS, _MOST_STEPS, _MOST_SEED = 10**9, 10**6, 2**64


@dataclass(frozen=True)
class Protocol:
    """Says which tasks a result was measured on, and how: what must agree before numbers are compared.

    Attributes:
        split: of the tasks.
        num_tasks: tasks that were scored.
        ways: classes of a task; None for regression.
        shots, queries: examples of a task, for each class or in all.
        per_class: whether shots and queries count for each class, as those of images do.
        inner_steps: steps of the inner loop.
        batch_norm: the network's norm.
        seed: `evaluation.seed`, which draws the tasks.
        batch_norm_statistics: `evaluation.batch_norm`, the images whose statistics the batch norm of query images
            takes; None for a network without batch norm.
    """

    split: str
    num_tasks: int
    ways: int | None
    shots: int
    queries: int
    per_class: bool
    inner_steps: int
    batch_norm: str
    seed: int
    batch_norm_statistics: str | None = None

    @classmethod
    def from_json(cls, value: object, key: str = "protocol") -> Protocol:
        """Return the protocol in a JSON object; ValueError names a key that is missing or holds what it cannot mean.

        Results of versions before `evaluation.batch_norm` do not say whose statistics were taken: the query images'.
        """
        given = mapping(value, key)
        batch_norm = text(given.get("batch_norm"), f"{key}.batch_norm")
        statistics = given.get("batch_norm_statistics", "joint" if batch_norm == "batch" else None)
        return cls(
            split=text(given.get("split"), f"{key}.split"),
            num_tasks=whole(given.get("num_tasks"), f"{key}.num_tasks", least=1, most=_MOST_TASKS),
            ways=maybe(given.get("ways"), f"{key}.ways", whole),
            shots=whole(given.get("shots"), f"{key}.shots"),
            queries=whole(given.get("queries"), f"{key}.queries"),
            per_class=truth(given.get("per_class"), f"{key}.per_class"),
            inner_steps=whole(given.get("inner_steps"), f"{key}.inner_steps", most=_MOST_STEPS),
            batch_norm=batch_norm,
            seed=whole(given.get("seed"), f"{key}.seed", least=-_MOST_SEED, most=_MOST_SEED),
            batch_norm_statistics=maybe(statistics, f"{key}.batch_norm_statistics", text),
        )

    def to_json(self) -> dict[str, object]:
        """Return the protocol as evaluation.json holds it."""
        value = asdict(self)
        if self.batch_norm_statistics is None:
            del value["batch_norm_statistics"]
        return value


@dataclass(frozen=True)
class Scores:
    """Holds losses and accuracies over tasks; each is None where there is none, as accuracies of a regression.

    Attributes:
        loss, accuracy: on query sets.
        support_loss, support_accuracy: on support sets.
    """

    loss: Score | None = None
    support_loss: Score | None = None
    accuracy: Score | None = None
    support_accuracy: Score | None = None

    def of(self, metric: str) -> Score | None:
        """Return the score of one of `METRICS`; None if there is none."""
        score: Score | None = getattr(self, metric)
        return score

    def mean(self, metric: str) -> float:
        """Return the mean of a metric; NaN if there is none or it overflowed."""
        score = self.of(metric)
        return math.nan if score is None or score.mean is None else score.mean

    def half_width(self, metric: str) -> float:
        """Return the half-width of the interval of a metric; 0 where there is none."""
        score = self.of(metric)
        return 0.0 if score is None or score.ci95 is None else score.ci95

    @classmethod
    def from_json(cls, value: object, key: str) -> Scores:
        """Return the scores in a JSON object, which may have other keys, too; ValueError names one that is wrong."""
        given = mapping(value, key)
        return cls(**{metric: _score(given[metric], f"{key}.{metric}") for metric in METRICS if metric in given})

    def to_json(self) -> dict[str, object]:
        """Return the scores that there are as evaluation.json holds them."""
        scores = {metric: self.of(metric) for metric in METRICS}
        return {metric: score.to_json() for metric, score in scores.items() if score is not None}


def _score(value: object, key: str) -> Score:
    given = mapping(value, key)
    if "mean" not in given:
        raise wrong(f"{key}.mean", "a finite number or null", None)
    mean = maybe(given["mean"], f"{key}.mean", finite)
    ci95 = maybe(given.get("ci95_over_tasks"), f"{key}.ci95_over_tasks", finite)
    if ci95 is not None and ci95 < 0:
        raise wrong(f"{key}.ci95_over_tasks", "a number from 0", ci95)
    return Score(mean, ci95)


def _fraction(value: object, key: str) -> float:
    if not 0 <= finite(value, key) <= 1:
        raise wrong(key, "a fraction from 0 to 1", value)
    return finite(value, key)


@dataclass(frozen=True)
class Point:
    """Holds one point of an adaptation curve.

    Attributes:
        step: inner steps done; 0 is before adaptation.
        scores: after that many steps; both losses are there.
    """

    step: int
    scores: Scores

    @classmethod
    def from_json(cls, value: object, key: str) -> Point:
        """Return the point in a JSON object; ValueError names a key that is missing or wrong."""
        given = mapping(value, key)
        scores = Scores.from_json(given, key)
        for metric in ("loss", "support_loss"):
            if scores.of(metric) is None:
                raise wrong(f"{key}.{metric}", "a score", None)
        return cls(whole(given.get("step"), f"{key}.step", most=_MOST_STEPS), scores)

    def to_json(self) -> dict[str, object]:
        """Return the point as evaluation.json holds it."""
        return {"step": self.step, **self.scores.to_json()}


@dataclass(frozen=True)
class RunReport:
    """Holds the result of a run: how well its weights adapt to tasks they have not seen.

    Attributes:
        recipe: the name of the run's recipe.
        weights: which checkpoint was scored, in words.
        protocol: which tasks, and how they were scored.
        curve: the scores at every inner step, at least one.
        references: scores of floors and baselines on the same tasks, by name.
        chance_accuracy: of guessing; None for regression.
        run: the folder, as it was named when the run was scored; None if that was not noted.
        notes: sentences on numbers that are less sure than they look.
    """

    recipe: str
    weights: str
    protocol: Protocol
    curve: tuple[Point, ...]
    references: Mapping[str, Scores]
    chance_accuracy: float | None = None
    run: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def final(self) -> Scores:
        """The scores after the last inner step."""
        return self.curve[-1].scores

    @property
    def has_accuracy(self) -> bool:
        """Whether the tasks are classifications."""
        return self.final.accuracy is not None

    def means(self, metric: str) -> list[float]:
        """Return the mean of a metric at every inner step; NaN where it overflowed."""
        return [point.scores.mean(metric) for point in self.curve]

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> RunReport:
        """Return the report in the content of evaluation.json.

        Raises:
            ValueError: it is not the result of a run; the message says which key is missing or holds what it cannot.
        """
        points = items(value.get("curve"), "curve", Point.from_json)
        references = mapping(value.get("references"), "references")
        return cls(
            recipe=text(value.get("recipe"), "recipe"),
            weights=text(value.get("weights"), "weights"),
            protocol=Protocol.from_json(value.get("protocol")),
            curve=(*points[:-1], Point.from_json(value.get("final"), "final")),
            references={name: Scores.from_json(scores, f"references.{name}") for name, scores in references.items()},
            chance_accuracy=maybe(value.get("chance_accuracy"), "chance_accuracy", _fraction),
            run=maybe(value.get("run"), "run", text),
            notes=tuple(items(value.get("notes", []), "notes", text)),
        )

    def to_json(self) -> dict[str, object]:
        """Return the content of evaluation.json.

        Every `ci95_over_tasks` is a half-width from the t distribution; accuracies are fractions. What does not
        exist is left out, and numbers that are not finite are None.
        """
        curve = [point.to_json() for point in self.curve]
        return {
            **({} if self.run is None else {"run": self.run}),
            "recipe": self.recipe,
            "weights": self.weights,
            "protocol": self.protocol.to_json(),
            "curve": curve,
            "final": curve[-1],
            "references": {name: scores.to_json() for name, scores in self.references.items()},
            **({} if self.chance_accuracy is None else {"chance_accuracy": self.chance_accuracy}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }
