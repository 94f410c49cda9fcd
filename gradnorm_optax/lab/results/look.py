"""What a method does to the gradient of every block, over a run."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Of the magnitudes of a block's entries.
QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
_DIGITS = 5
RECENT = 8  # looks that a noise scale is averaged over


def _none() -> np.ndarray:
  return np.zeros((0, 2))


@dataclasses.dataclass(frozen=True)
class Look:
  """A method on a model, looked at in some of its steps.

  Attributes:
    model, method: Their names.
    steps: The numbers of the steps, from 1; (n,) of them.
    blocks: The blocks' names; a scanned layer has an index.
    loss: The loss of each step's batch; shape (n,).
    gradient: Norms of the raw gradient; shape (n, blocks).
    after: Norms of what reaches the optimizer's moments.
    update: Norms of what the step adds to the parameters.
    ratio: That over the norm of the parameters before.
    parts: {part: norms}, where what reaches the moments comes in parts, as
      `direction` and `length` under weight normalization.
    before: Quantiles `QUANTILES` of the magnitudes of the raw gradient's
      entries that are not zero, then the share of zeros; (n, blocks, 8).
    reached: The same of what reaches the moments.
    flags: {block: what is wrong and what may help}.
    noise: tr(S) and |G|^2 of each step's batch, as `noise_scale` takes them;
      (n, 2), of looks of earlier versions (0, 2).
    clipped: The share of all steps up to the last one whose gradient was
      clipped; None where it is not known or nothing clips.
  """

  model: str
  method: str
  steps: list[int]
  blocks: list[str]
  loss: np.ndarray
  gradient: np.ndarray
  after: np.ndarray
  update: np.ndarray
  ratio: np.ndarray
  parts: dict[str, np.ndarray]
  before: np.ndarray
  reached: np.ndarray
  flags: dict[str, str]
  noise: np.ndarray = dataclasses.field(default_factory=_none)
  clipped: float | None = None

  def record(self) -> dict[str, Any]:
    """What JSON can hold of it, to five digits; null where not finite."""
    return {field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)}

  @classmethod
  def joined(cls, records: Sequence[dict[str, Any]]) -> 'Look':
    """Reads several records of one run, in the order of its steps."""
    first, found = records[0], [cls.of(record) for record in records]
    arrays: dict[str, Any] = {
        field.name: np.concatenate(
            [getattr(look, field.name) for look in found])
        for field in dataclasses.fields(cls) if field.type is np.ndarray}
    return cls(
        first['model'], first['method'], blocks=first['blocks'],
        steps=[step for look in found for step in look.steps],
        parts={name: np.concatenate([look.parts[name] for look in found])
               for name in first['parts']},
        flags={block: flag for look in found
               for block, flag in look.flags.items()}, **arrays)

  @property
  def noise_scale(self) -> float:
    """Of its last steps; see `noise_scale`."""
    return noise_scale(self.noise)

  @classmethod
  def of(cls, record: dict[str, Any]) -> 'Look':
    """Reads a record.

    >>> ones = np.ones((2, 1))
    >>> look = Look('mlp', 'adam', [1, 2], ['a'], ones[0], ones, ones, ones,
    ...             np.nan * ones, {}, ones, ones, {})
    >>> Look.of(look.record()).ratio.tolist()
    [[nan], [nan]]
    """
    arrays: dict[str, Any] = {
        field.name: np.array(record.get(field.name, _none()), np.float64)
        for field in dataclasses.fields(cls) if field.type is np.ndarray}
    others: dict[str, Any] = {
        name: record[name]
        for name in ('model', 'method', 'steps', 'blocks', 'flags')}
    return cls(**arrays, **others, clipped=record.get('clipped'), parts={
        name: np.array(part, np.float64)
        for name, part in record['parts'].items()})


def noise_scale(noise: Any) -> float:
  """The simple noise scale tr(S) / |G|^2, in examples.

  About as large a batch halves the speed at which examples are used; a much
  larger one wastes them, in a much smaller one noise decides most of a step.

  Args:
    noise: Estimates of both by step, (n, 2); the last `RECENT` count. Each is
      far too noisy to be divided alone.

  Returns:
    NaN where nothing is known, inf where the gradient is lost in the noise.

  >>> noise_scale([[200.0, 1.0], [400.0, 3.0]]), noise_scale([])
  (150.0, nan)
  """
  known = np.array(noise, np.float64).reshape(-1, 2)
  known = known[np.isfinite(known).all(axis=1)][-RECENT:]
  if not len(known):
    return math.nan
  trace, square = known.mean(axis=0)
  return max(float(trace / square), 0.0) if square > 0 else math.inf


def _plain(value: Any) -> Any:
  """Arrays as lists of numbers with few digits."""
  if isinstance(value, dict):
    return {key: _plain(part) for key, part in value.items()}
  if isinstance(value, np.ndarray):
    return [_plain(part) for part in value]
  if isinstance(value, float | np.floating):
    return (float(f'{value:.{_DIGITS}g}') if math.isfinite(value) else None)
  return value


def instants(steps: int, count: int) -> list[int]:
  """Which steps of a run to look at: dense at first, the last one too.

  Args:
    steps: How many the run has.
    count: How many to look at, at most.

  >>> instants(1000, 8), instants(3, 8), instants(0, 8)
  ([1, 3, 7, 19, 52, 139, 373, 1000], [1, 2, 3], [])
  """
  if count >= steps:
    return list(range(1, steps + 1))
  found = np.zeros(0, int)
  # Where rounding makes two one, more are spread.
  for spread in range(count, steps):
    found = np.unique(np.geomspace(1, steps, spread).round().astype(int))
    if len(found) >= count:
      break
  return found.tolist()
