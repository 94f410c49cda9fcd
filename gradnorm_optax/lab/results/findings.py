"""What comparisons and inspections find: plain data, which others judge and
draw."""

import dataclasses
import math
import shlex
from typing import Any, Literal, NamedTuple

import numpy as np

from gradnorm_optax.lab.objective.quality import ACCURACY, Measure
from gradnorm_optax.lab.results import stats
from gradnorm_optax.lab.results.costs import Pass
from gradnorm_optax.lab.support.json_safe import OrInf, OrNan

# {model: {method: {training step: log10 norms through time}}}
Profiles = dict[str, dict[str, dict[int, list[float | None]]]]


class Run(NamedTuple):
  """One trial, judged.

  A diverged run counts with the worst score, infinite loss and infinite time;
  so does one that was left out for a `reason`.

  Attributes:
    curve, losses: Validation score and loss at every evaluation.
    train_losses: Mean loss of the batches since the evaluation before.
    reason: Why it was left out, if it was.
  """

  seed: int
  diverged: bool
  score: float
  final_loss: OrInf
  steps_to_target: OrInf
  curve: tuple[float, ...]
  test_score: OrNan
  train_loss: OrInf = math.inf
  losses: tuple[OrNan, ...] = ()
  train_losses: tuple[OrNan, ...] = ()
  reason: str | None = None

  @staticmethod
  def of(record: dict[str, Any], target: float = math.inf,
         every: int = 1, worst: float = 0.0) -> 'Run':
    """Judges a record of the run folder; no score counts below `worst`."""
    history = record['history']
    curve = tuple(max(worst, value) for value in history['score'])
    losses, train_losses = (
        tuple(math.nan if value is None else value for value in history[name])
        for name in ('loss', 'train_loss'))
    if record['diverged']:
      return Run(
          record['seed'], True, worst, math.inf, math.inf, curve, worst,
          math.inf, losses, train_losses, record.get('reason'))
    test = record.get('test')
    return Run(
        record['seed'], False, curve[-1], history['loss'][-1],
        stats.steps_to_target(curve, target, every), curve,
        max(worst, test['score']) if test else math.nan,
        history['train_loss'][-1], losses, train_losses)


class Confusion(NamedTuple):
  """What was answered to each class, counted over the fresh seeds.

  Attributes:
    labels: How many labels each class has.
    right: How many of them were found.
    answers: Labels by answers; None where there are many classes.
  """

  labels: tuple[int, ...]
  right: tuple[int, ...]
  answers: tuple[tuple[int, ...], ...] | None

  @classmethod
  def of(cls, counts: np.ndarray, most: int = 30) -> 'Confusion':
    """Keeps a matrix of at most so many classes.

    >>> Confusion.of(np.array([[3, 1], [0, 4]])).right
    (3, 4)
    """
    return cls(
        tuple(counts.sum(1).tolist()), tuple(np.diag(counts).tolist()),
        tuple(map(tuple, counts.tolist())) if len(counts) <= most else None)


@dataclasses.dataclass(frozen=True)
class Point:
  """A method at one learning rate, over the tuning seeds.

  Attributes:
    settings: Values of what else was searched, by dotted key.
  """

  rate: float
  score: OrNan
  diverged: int
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
  """A method on a model.

  Attributes:
    model, method: Their names.
    rate: The chosen learning rate.
    settings: The chosen values of what else was searched, by dotted key.
    edge: Whether the rate lies on the edge of the grid, which voids the row.
    trains: Whether any run was better than guessing.
    score: Score on the test part, by which the method is judged; its interval
      is over the fresh seeds and the examples.
    spread: Its standard deviation over the seeds.
    steps: Median step at which the target was reached; inf if it was not.
    reached: How many seeds reached it.
    epochs: The same in epochs.
    seconds: `steps` times the measured time of a step.
    whole_seconds: All steps of a run times that.
    forward: Forward passes of the model, one example and an evaluation's batch;
      its weight normalization is folded into the weights.
    diverged: How many fresh runs diverged.
    seeds: How many fresh seeds there were.
    validation: Mean final score on the validation part, which chose the rate.
    train_loss: Mean loss of the last stretch of training.
    step_seconds: Median time of a training step.
    bare: The method without clipping and normalization.
    overhead: Its step's time over the bare one's, between the ends of its 95%
      interval.
    sensitivity: Every rate that was tried.
    runs: The fresh runs.
    tuned: Mean score on the tuning seeds at the chosen rate.
    plain: Whether it is a baseline: an optimizer of optax, clipped or not.
    difference: Paired difference to the best baseline of the model.
    acted: Share of the steps of the fresh runs in which sampling changed which
      examples count; None where the method has none.
    rounds: Seconds of a step in every round of timing, levelled; what any two
      rows cost against each other is `time_ratio.ratio` of these.
    confusion: What was answered to each class of the test part; None where
      there are no classes, or every fresh run diverged.
    fault: Where not one run stayed finite, what `gradnorm train` says of the
      first fresh one: the first bad step and block, and the mend.
  """

  model: str
  method: str
  rate: float
  edge: bool
  trains: bool
  score: stats.Interval
  spread: OrNan
  steps: OrInf
  reached: int
  seconds: OrInf
  diverged: int
  seeds: int
  validation: OrNan
  train_loss: OrInf
  step_seconds: float
  bare: str | None
  overhead: tuple[float, float, float] | None
  sensitivity: tuple[Point, ...]
  runs: tuple[Run, ...]
  tuned: OrNan = math.nan
  plain: bool = True
  difference: stats.Interval | None = None
  acted: float | None = None
  rounds: tuple[float, ...] = ()
  confusion: Confusion | None = None
  fault: str | None = None
  epochs: OrInf = math.inf
  whole_seconds: OrNan = math.nan
  forward: tuple[Pass, ...] = ()
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Verdict:
  """The recommendation for one model.

  Attributes:
    model: Its name.
    kind: "gain" where the interval of the paired difference lies above zero,
      for every baseline unless one was named; "loss" where it lies below,
      "none" else, "void" where no statement is allowed.
    text: Sentences, the last of which says what to do.
    method: The method that tuning nominated; None if there is none.
    baseline: The baseline that tuning nominated; None if there is none.
    difference: Paired difference of the scores on the test part.
    choice: What to use: the method after a gain, the baseline after a loss or
      no difference, None where nothing is recommended.
    sure: Whether nothing weakens it.
  """

  model: str
  kind: Literal['gain', 'loss', 'none', 'void']
  text: str
  method: str | None = None
  baseline: str | None = None
  difference: stats.Interval | None = None
  choice: str | None = None
  sure: bool = True


@dataclasses.dataclass(frozen=True)
class Summary:
  """All rows of a comparison and what they share.

  Attributes:
    chance: The score of guessing.
    target: The score to reach; infinite where there is none.
    measure: What the score is.
    worst: What a diverged run scores.
    classes: What the classes are called, in the order of their numbers.
    positive: The one that a score of two classes looks for.
    scopes: (model, method, what one part of it acts on), line by line.
    notes: What to know of a method before its row is read.
    per_epoch: Steps of an epoch; NaN of an earlier version.
    points: How many points of every method were searched; None of grids.
  """

  name: str
  title: str
  data: str
  chance: float
  target: OrInf
  steps: int
  every: int
  seeds: int
  tune_seeds: int
  rows: tuple[Row, ...]
  verdicts: tuple[Verdict, ...] = ()
  measure: Measure = ACCURACY
  worst: float = 0.0
  scopes: tuple[tuple[str, str, str], ...] = ()
  notes: tuple[str, ...] = ()
  classes: tuple[str, ...] = ()
  positive: str | None = None
  per_epoch: OrNan = math.nan
  points: int | None = None

  @property
  def aim(self) -> str:
    """The target as a heading shows it."""
    if math.isinf(self.target):
      return 'target'
    return f'{self.measure.scale * self.target:g}{self.measure.unit}'

  @property
  def length(self) -> str:
    """The steps of a run, in epochs too."""
    epochs = self.steps / self.per_epoch
    return f'{self.steps} steps' + (
        '' if math.isnan(epochs) else f' ({epochs:.3g} epochs)')

  def choice(self, model: str) -> str | None:
    """The method to use on a model; None where nothing is recommended."""
    return next((verdict.choice for verdict in self.verdicts
                 if verdict.model == model), None)

  @property
  def lost(self) -> bool:
    """Whether not one run of any method stayed finite."""
    return all(row.fault is not None for row in self.rows)

  def faults(self) -> dict[str, list[str]]:
    """{what went wrong: the methods of which not one run stayed finite}."""
    found: dict[str, list[str]] = {}
    for row in self.rows:
      if row.fault is not None:
        found.setdefault(row.fault, []).append(f'{row.model} {row.method}')
    return found

  @property
  def diagnosis(self) -> str | None:
    """The command that says where the first diverged run went bad."""
    lost = next(((row, run) for row in self.rows for run in row.runs
                 if run.diverged and not run.reason), None)
    if lost is None:
      return None
    row, run = lost
    values = {'model': row.model, 'method': row.method,
              'learning_rate': f'{row.rate:g}', 'seed': run.seed}
    values = {f'run.{key}': value for key, value in values.items()} | {
        key if key.startswith('train.') else f'methods.{row.method}.{key}':
        value for key, value in row.settings.items()}
    return 'gradnorm train CONFIG ' + ' '.join(
        '--set ' + shlex.quote(f'{key}={value}')
        for key, value in values.items())
