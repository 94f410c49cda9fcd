"""`gradnorm compare --minutes`: a comparison that ends in time."""

import math
from collections.abc import Callable

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import timing
from gradnorm_optax.lab.comparison.runner import Runner
from gradnorm_optax.lab.comparison.schedule import COMPILE
from gradnorm_optax.lab.results import budget, step_cost
from gradnorm_optax.lab.results.budget import Costs, Numbers
from gradnorm_optax.lab.results.store import fingerprint
from gradnorm_optax.lab.support.errors import LabError

FILL = 0.92  # of the budget is planned for; the rest is for what slows down
REPORT = 12.0  # seconds to judge and to draw
CALL = 0.03  # seconds of a trial before its first step and after its last
TIMING = 0.15  # of the budget at most, for the cost of a step


def run(runner: Runner, minutes: float, say: Callable[[str], None]) -> None:
  """Runs a comparison within a time, counted from the plan's start.

  The programs are compiled and timed first; then it is said what fits
  (`budget.choose`), and kept in the folder: the same command goes on with that.
  While it runs, tuning seeds and fresh seeds are made one after another, each
  for all methods, and no further one is begun that would not end in time. That
  depends on the clock, never on a score.

  Args:
    runner: It has a folder.
    minutes: The budget.
    say: Is told what will be done, before it begins.

  Raises:
    LabError: Even the least does not fit.
  """
  Limited(runner, minutes, say).run()


class Limited:
  """A runner whose comparison ends in time."""

  def __init__(self, runner: Runner, minutes: float,
               say: Callable[[str], None]):
    """Looks for what an earlier session planned."""
    self.runner, self.say = runner, say
    self.minutes, self.limit = minutes, 60 * minutes
    self.config, basis = runner.config, runner.basis
    self.key = fingerprint(
        budget=minutes, config=self.config.model_dump(mode='json'),
        data=basis.data, own=basis.own, code=basis.code,
        versions=basis.versions, arithmetic=basis.arithmetic,
        together=basis.together)
    self.kept = runner.store.records.get(self.key)

  def run(self) -> None:
    """Runs what the time holds."""
    runner = self.runner
    if self.kept:
      # What other sessions have spent on these trials is spent.
      self.limit -= runner.schedule.kept()
      runner.restrict(self._with(self._numbers(self.kept)))
    runner.compile()
    costs = self._costs()
    numbers = (self._numbers(self.kept) if self.kept else self._planned(costs))
    least = Numbers(*map(min, numbers, budget.LEAST))
    fresh = costs.trials(least.seeds)
    # Where rates stop or grids widen, all seeds decide on that together.
    apart = not (self.config.compare.halving or self.config.compare.extend)
    done = self._seeds(
        ('early', 'tune'), least.tune_seeds if apart else numbers.tune_seeds,
        numbers.tune_seeds, costs, numbers.rates, fresh, lambda seeds:
        numbers._replace(tune_seeds=seeds))
    numbers = numbers._replace(tune_seeds=done)
    done = self._seeds(
        ('final',), least.seeds, numbers.seeds, costs, 1, 0.0, lambda seeds:
        numbers._replace(seeds=seeds))
    self._keep(numbers._replace(seeds=done))
    runner.schedule.limit = self.limit - REPORT
    runner.conclude()

  def _seeds(self, phases: tuple[str, ...], least: int, most: int,
             costs: Costs, trials: int, later: float,
             numbers: Callable[[int], Numbers]) -> int:
    """Makes seeds as long as they fit; returns how many.

    Args:
      phases: What is made of them.
      least, most: How many.
      costs: What they cost, as far as is known before.
      trials: How many each has of every method.
      later: Seconds of the trials that must follow.
      numbers: What the comparison makes with so many.
    """
    runner = self.runner
    # Trials that share a call cost the same, however few they are.
    count = most if costs.together > 1 else least
    began, expected = runner.schedule.plan.elapsed(), 0.0
    while True:
      runner.restrict(self._with(numbers(count)))
      for phase in phases:
        runner.finish(phase)
      if count >= most:
        return count
      # Of this phase, how much slower than expected it went.
      expected = expected or costs.trials(trials * count)
      spent = runner.schedule.plan.elapsed() - began
      pace = max(1.0, spent / expected) if expected else 1.0
      next_seed = costs.trials(trials)
      runner.restrict(self._with(numbers(count + 1)))
      missing = any(runner.trials.missing(phase, pair) for phase in phases
                    for pair in runner.trials.pairs())
      after = runner.schedule.plan.elapsed() + costs.rest + pace * (
          next_seed + later)
      if missing and after > self.limit:
        runner.restrict(self._with(numbers(count)))
        return count
      count, expected = count + 1, expected + next_seed

  def _planned(self, costs: Costs) -> Numbers:
    """Chooses what fits, says and keeps it."""
    config, most = self.config, budget.asked(self.config)
    gone = self.runner.schedule.plan.elapsed()
    numbers = budget.choose(config, costs, FILL * self.limit - gone)
    if numbers is None:
      few = budget.least(config)
      needed = (gone + budget.seconds(config, costs, few)) / FILL / 60
      raise LabError(
          f'--minutes {self.minutes:g} is too short: the least that can decide '
          f'({few}) needs --minutes {_rounded(needed)}; or take fewer '
          'train.steps, methods or models')
    test = next(iter(self.runner.benches.values())).problem.dataset.test
    right = self.runner.basis.measure.name in ('accuracy', 'share right')
    self.say(budget.told(
        self.minutes, numbers, most,
        gone + budget.seconds(config, costs, numbers),
        len(test.y) if right else None))
    self._keep(numbers)
    return numbers

  def _costs(self) -> Costs:
    """What trials and all else will take, now that programs are compiled."""
    runner, config = self.runner, self.config
    pairs = runner.trials.pairs()
    calls = tuple(CALL + runner.schedule.call_seconds(pair) for pair in pairs)
    rest = REPORT
    if config.compare.look:
      # Each look compiles a program more, and runs it once.
      compiling = runner.schedule.plan.spent(COMPILE) / max(
          1.0, runner.schedule.plan.done(COMPILE))
      alone = sum(calls) / (runner.batch * runner.workers)
      rest += len(pairs) * compiling + alone
    rest += max(self._timing(calls, timing.LEAST), min(
        self._timing(calls, config.compare.timing_rounds),
        TIMING * 60 * self.minutes))
    return Costs(calls, runner.workers, runner.batch, rest)

  def _timing(self, calls: tuple[float, ...], rounds: int) -> float:
    """About how long it takes to time all programs, in so many rounds."""
    config, batch = self.config, self.runner.batch
    step = sum(calls) / max(1, len(calls)) / config.train.steps / batch
    programs = sum(len(step_cost.programs(config, model))
                   for model in config.models)
    # In a round a call of one step, and one of steps that last a while.
    return programs * (rounds + 4) * (2 * step + 4 * timing.LONG)

  def _numbers(self, record: dict[str, int]) -> Numbers:
    return Numbers(*(record[name] for name in Numbers._fields))

  def _keep(self, numbers: Numbers) -> None:
    """Keeps what is made, unless it stands there."""
    record = {'fingerprint': self.key, 'phase': 'budget',
              'minutes': self.minutes, **numbers._asdict()}
    if self.runner.store.records.get(self.key) != record:
      self.runner.store.add(record)

  def _with(self, numbers: Numbers) -> schema.Config:
    return budget.restricted(self.config, numbers)


def _rounded(minutes: float) -> str:
  """A budget, rounded up to what one would write.

  >>> _rounded(0.32), _rounded(3.21), _rounded(47.2)
  ('0.4', '3.3', '48')
  """
  unit = 10 if minutes < 10 else 1
  return f'{math.ceil(minutes * unit) / unit:g}'
