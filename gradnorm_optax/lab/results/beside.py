"""Finished comparisons side by side: what differs, and what may be compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gradnorm_optax.lab.results.findings import Row, Verdict
from gradnorm_optax.lab.results.results_file import Finished

NONE = 'not set'


class Beside(NamedTuple):
  """Several finished comparisons.

  Attributes:
    found: Each by its name.
    rows: {model: {method: its row in every comparison, None where it is not}}.
    verdicts: {model: the verdict of every comparison}.
    differences: Keys of the configuration, and what else the trials rest on,
      with the value in every comparison where they are not all the same.
    warnings: Why scores may not be held against each other.
  """

  found: dict[str, Finished]
  rows: dict[str, dict[str, list[Row | None]]]
  verdicts: dict[str, list[Verdict | None]]
  differences: dict[str, list[str]]
  warnings: list[str]


def put(found: Mapping[str, Finished]) -> Beside:
  """Puts comparisons side by side, in their order."""
  all_rows = [row for one in found.values() for row in one.summary.rows]
  rows: dict[str, dict[str, list[Row | None]]] = {}
  for row in all_rows:
    rows.setdefault(row.model, {}).setdefault(row.method, [
        next((other for other in one.summary.rows if (
            other.model, other.method) == (row.model, row.method)), None)
        for one in found.values()])
  return Beside(
      dict(found), rows,
      {model: [next((verdict for verdict in one.summary.verdicts
                     if verdict.model == model), None)
               for one in found.values()] for model in rows},
      _differences([_basis(one) for one in found.values()]),
      list(_warnings(found)))


def _basis(one: Finished) -> dict[str, str]:
  """What the trials of a comparison rest on, as texts."""
  basis = one.basis
  config = one.config.model_dump(mode='json')
  for name in ('name', 'title'):
    config.pop(name, None)
  return {
      'data (digest)': basis.data, 'data': basis.description,
      'score': basis.measure.name, **dict(_leaves(config)),
      **{f'version of {name}': version
         for name, version in basis.versions.items()},
      'code of gradnorm_optax (digest)': basis.code[:12],
      **{f'{name} (arithmetic)': str(value)
         for name, value in basis.arithmetic.items()}}


def _leaves(table: Mapping[str, Any], at: str = '') -> Iterator[
    tuple[str, str]]:
  for key, value in table.items():
    if isinstance(value, dict) and value:
      yield from _leaves(value, f'{at}{key}.')
    elif value is not None:
      yield f'{at}{key}', value if isinstance(value, str) else json.dumps(value)


def _differences(parts: Sequence[dict[str, str]]) -> dict[str, list[str]]:
  """The keys whose values are not all the same.

  A model or a method that only some have is one line.
  """
  keys = dict.fromkeys(key for part in parts for key in part)
  shown: dict[str, list[str]] = {}
  for key in keys:
    table = '.'.join(key.split('.')[:2])
    held = [any(other.startswith(f'{table}.') for other in part)
            for part in parts]
    if key.startswith(('models.', 'methods.')) and not all(held):
      shown[table] = ['there' if one else NONE for one in held]
    else:
      shown[key] = [part.get(key, NONE) for part in parts]
  return {key: values for key, values in shown.items()
          if len(set(values)) > 1}


def _warnings(found: Mapping[str, Finished]) -> Iterator[str]:
  scores = {name: one.basis.measure.name for name, one in found.items()}
  if len(set(scores.values())) > 1:
    yield ('Other scores, not to be compared: '
           + '; '.join(f'{name} by {score}' for name, score in scores.items())
           + '.')
  data: dict[str, list[str]] = {}
  for name, one in found.items():
    data.setdefault(one.basis.data, []).append(name)
  if len(data) > 1:
    yield ('Other data, whose scores are not to be compared: '
           + ' / '.join(', '.join(names) for names in data.values()) + '.')
