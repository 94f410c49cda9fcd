"""What a comparison will do and need, told before it runs."""

from typing import NamedTuple


class Planned(NamedTuple):
  """One method on one model.

  Attributes:
    model, method: Their names.
    acts_on: What each of its parts acts on, a line for each that is no plain
      optimizer.
    partial: Whether one of them leaves out most of the parameters.
    trials: How many runs, on tuning seeds and on fresh ones.
    short: How many more over the first steps alone.
    added: How many more at most, where grids widen.
    programs: How many must be compiled, one for all rates.
    parameters: How many numbers are trained.
    model_bytes: Parameters and the model's other variables.
    state_bytes: The optimizer's state.
  """

  model: str
  method: str
  acts_on: tuple[str, ...]
  partial: bool
  trials: int
  parameters: int
  model_bytes: int
  state_bytes: int
  short: int = 0
  added: int = 0
  programs: int = 1

  @property
  def bytes(self) -> int:
    """What one run holds, a gradient included, activations left aside."""
    return 2 * self.model_bytes + self.state_bytes


class Speed(NamedTuple):
  """What one method of a model was measured to take, in seconds.

  Attributes:
    model, method: Which.
    step: One step.
    evaluation: One look at the validation part.
    compiling: The program of both.
  """

  model: str
  method: str
  step: float
  evaluation: float
  compiling: float


class Plan(NamedTuple):
  """All of a comparison.

  Attributes:
    name: The comparison's.
    data: The examples, in words.
    planned: Every method on every model.
    example_bytes: All three parts.
    steps, evaluations: Of one run.
    workers: How many runs, or calls, go on side by side.
    together: How many runs share a call.
    speeds: One for each model.
    share: Of a run, what a short one takes.
    looks: How many runs more are looked at, each with a program of its own.
    points: How many every method has of a search; None of grids.
    timing, report: Seconds of measuring what steps cost, and of the report.
  """

  name: str
  data: str
  planned: tuple[Planned, ...]
  example_bytes: int
  steps: int
  evaluations: int
  workers: int
  together: int
  speeds: tuple[Speed, ...] = ()
  share: float = 1.0
  looks: int = 0
  timing: float = 0.0
  report: float = 0.0
  points: int | None = None

  @property
  def trials(self) -> int:
    """How many runs in all, short ones and what widening adds aside."""
    return sum(one.trials for one in self.planned)

  @property
  def short(self) -> int:
    """How many runs over the first steps alone."""
    return sum(one.short for one in self.planned)

  @property
  def added(self) -> int:
    """How many runs more at most, where grids widen."""
    return sum(one.added for one in self.planned)

  @property
  def bytes(self) -> int:
    """The examples and as many of the largest runs as go on at once."""
    return self.example_bytes + self.workers * self.together * max(
        one.bytes for one in self.planned)

  @property
  def seconds(self) -> float:
    """About how long it takes if every method steps as the measured one.

    At most, where grids may widen.
    """
    return sum(self.spent.values())

  @property
  def spent(self) -> dict[str, float]:
    """The same by what takes it: trials, looks, timing, the report."""
    speeds = {one.model: one for one in self.speeds}
    runs = {one.model: self.steps * speeds[one.model].step
            for one in self.planned}
    trials = sum(
        speeds[one.model].compiling * one.programs + (
            one.trials + one.added + one.short * self.share) * (
            runs[one.model] + self.evaluations * speeds[one.model].evaluation)
        for one in self.planned) / self.workers
    looking = self.looks / len(self.planned) * sum(
        speeds[one.model].compiling + runs[one.model]
        for one in self.planned) / self.workers
    return {'trials': trials, 'looks': looking, 'timing': self.timing,
            'report': self.report}
