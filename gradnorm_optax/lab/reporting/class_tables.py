"""What was answered to each class: recall, and the confusion matrix."""

from typing import NamedTuple

from gradnorm_optax.lab.results.findings import Confusion, Summary


class ClassTable(NamedTuple):
  """The classes of the test part under the methods of one model.

  Attributes:
    model: Its name.
    methods: Those with a run that did not diverge.
    rows: Of each class its name, its labels in one run, and the share of them
      that each method found, None where there are no labels.
    matrices: Of each method, {class: [(answers, share of the labels)]}; empty
      where there are many classes.
  """

  model: str
  methods: list[str]
  rows: list[tuple[str, int, list[float | None]]]
  matrices: dict[str, dict[str, list[tuple[int, float]]]]


def tables(found: Summary) -> list[ClassTable]:
  """One table for each model; none where labels are no classes."""
  made = []
  for model in dict.fromkeys(row.model for row in found.rows):
    kept = {row.method: (row.confusion, row.seeds - row.diverged)
            for row in found.rows
            if row.model == model and row.confusion is not None}
    if kept:
      made.append(_table(found, model, kept))
  return made


def _table(found: Summary, model: str,
           kept: dict[str, tuple[Confusion, int]]) -> ClassTable:
  first, runs = next(iter(kept.values()))
  names = [*found.classes, *map(
      str, range(len(found.classes), len(first.labels)))]
  rows = [
      (name, first.labels[i] // runs,
       [one.right[i] / one.labels[i] if one.labels[i] else None
        for one, _ in kept.values()]) for i, name in enumerate(names)]
  return ClassTable(
      model, list(kept), rows,
      {method: {name: [(count, count / max(sum(counts), 1)) for count in counts]
                for name, counts in zip(names, one.answers, strict=True)}
       for method, (one, _) in kept.items() if one.answers is not None})
