"""Runs the trials of a comparison that are missing, each once."""

import concurrent.futures
import functools
from collections.abc import Callable, Iterable
from typing import Any

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import missing, preflight
from gradnorm_optax.lab.comparison.computation import Computation
from gradnorm_optax.lab.comparison.missing import Call, Job
from gradnorm_optax.lab.comparison.model_programs import Bench
from gradnorm_optax.lab.comparison.place import Here, Place
from gradnorm_optax.lab.comparison.schedule import (
  COMPILE,
  FAULT,
  LOOK,
  TIME,
  Schedule,
)
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.results import (
  forward_cost,
  made_with as basis_lib,
  results_file,
  step_cost,
)
from gradnorm_optax.lab.results.store import Store
from gradnorm_optax.lab.results.trials import PHASES, Pair, Trials
from gradnorm_optax.lab.support import provenance
from gradnorm_optax.lab.support.remaining import Remaining


class Runner:
  """Runs the missing trials of a comparison and keeps every result.

  Attributes:
    trials: What is asked of the trials, once a folder is taken.
  """

  trials: Trials

  def __init__(self, config: schema.Config, place: Place | None = None):
    """Loads the data and builds the models; writes nothing.

    Args:
      config: What is compared.
      place: Where it is computed; here if None.
    """
    self.config = config
    self.place = place or Here()
    dataset = sources.load(config.data, config.train)
    found = preflight.look(config, dataset)
    per_method = config.compare.tried * config.compare.tune_seeds
    self.workers, self.batch = self.place.placement(
        config.compare, per_method)
    self.computation = Computation(config, dataset, self.batch)
    self.benches = self.computation.benches
    # The user's code behind every row, whatever is edited or imported later.
    self.basis = self.place.take(self.computation, basis_lib.here(
        config, provenance.data_digest(dataset[:3]), dataset.description,
        dataset.objective, dataset.deviation, found.scopes,
        together=self.batch > 1, examples=len(dataset.train.y),
        groups=dataset.groups))

  def use(self, store: Store, plan: Remaining | None = None) -> None:
    """Takes a folder, and a plan that is told what is done."""
    self.place.begin()
    self.store = store
    self._take(self.config)
    plan = plan or Remaining()
    plan.beside = self.place.told
    self.schedule = Schedule(plan, self.trials, self.workers, self.batch)

  def run(self) -> None:
    """Runs all of a comparison."""
    self.compile()
    for phase in PHASES:
      self.finish(phase)
    self.conclude()

  def restrict(self, config: schema.Config) -> None:
    """Goes on with other numbers of rates and seeds."""
    self._take(config)
    self.schedule.use(self.trials)

  def _take(self, config: schema.Config) -> None:
    self.config = self.computation.config = config
    self.trials = Trials(self.store.records, config, self.basis)
    results_file.write_plan(self.store.folder, config, self.basis)

  def conclude(self) -> None:
    """Looks at the blocks and times the steps."""
    lost = missing.faults(self.trials)
    if lost:
      self.schedule.begin(FAULT)
      self._each(self._diagnose, lost)
    self.schedule.begin(LOOK)
    self._each(self._look, missing.looks(self.trials))
    self._time()

  def compile(self) -> None:
    """Compiles what trials and timing need, all cores at once."""
    jobs: dict[Any, Job] = {}  # of equal methods one is compiled
    for job in missing.jobs(self.trials) if self.place.here else ():
      jobs.setdefault(self._bench(job).program(job.method, job.train), job)
    self.schedule.plan_all(len(jobs))
    self.schedule.begin(COMPILE, f'compiling {len(jobs)} programs')
    benches = {id(bench): bench for bench in map(self._bench, jobs.values())}
    self._each(lambda bench: bench.warm(), benches.values())
    self._each(self._compile, jobs.values())

  def finish(self, phase: str) -> None:
    """Runs what a phase still needs."""
    self.schedule.begin(phase)
    # What was found may widen the grids.
    while calls := list(missing.calls(self.trials, phase, self.batch)):
      self._each(self._call, self.place.order(calls))
      self.schedule.count()

  def _bench(self, job: Job) -> Bench:
    bench = self.benches[job.model]
    return bench.alone if job.timed else bench

  def _compile(self, job: Job) -> None:
    """Compiles one program; a method that refuses the model says so."""
    bench = self._bench(job)
    with chain.refusing(job.method, bench.problem.context, bench.problem.init,
                        job.where):
      bench.compile(job.method, job.train)
    self.schedule.compiled(job, None if job.timed else bench.call_seconds(
        job.method, job.train))

  def _each(self, work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Does the work on every item in the worker threads."""
    pool = concurrent.futures.ThreadPoolExecutor(
        self.place.threads or self.workers)
    try:
      for done in concurrent.futures.as_completed(
          [pool.submit(work, item) for item in items]):
        done.result()
    finally:
      pool.shutdown(cancel_futures=True)

  def _call(self, call: Call) -> None:
    """Runs one call and keeps its trials."""
    outcomes = self.place.trials(call)
    for point, seed, outcome in zip(
        call.points, call.seeds, outcomes, strict=True):
      self.store.add({
          'fingerprint': self.trials.key(
              call.phase, call.pair, point, seed),
          'phase': call.phase, **call.pair._asdict(), **point.record(),
          'seed': seed, **outcome._asdict()})
    self.schedule.called(call)

  def _diagnose(self, pair: Pair) -> None:
    """Keeps where the first fresh run of a method went bad."""
    run = self.trials.lost(pair)
    assert run is not None, 'some run stayed finite'
    text = run.get('reason') or self.place.do(
        'fault', pair, self.trials.chosen(pair), run['seed'],
        len(run['history']['loss']))
    self.store.add({'fingerprint': self.trials.fault_key(pair),
                    'phase': 'fault', **pair._asdict(), 'text': text})

  def _look(self, pair: Pair) -> None:
    """Trains once more, and keeps what a method does to every block.

    Where a time is given and over, the next start of the command does it.
    """
    if self.schedule.plan.elapsed() > self.schedule.limit:
      return
    found = self.place.do('look', pair, self.trials.chosen(pair))
    self.store.add({'fingerprint': self.trials.look_key(pair),
                    'phase': 'look', **found})
    self.schedule.finish(LOOK)

  def _serve(self, model: str) -> None:
    """Keeps what a forward pass of a model costs."""
    passes, machine = self.place.passes(model)
    self.store.add({'fingerprint': forward_cost.key(self.trials, model),
                    'phase': 'forward', 'model': model, 'passes': passes,
                    **({'machine': machine} if machine else {})})

  def _time(self) -> None:
    """Times the steps of the models' methods, where that is not kept."""
    self.schedule.begin(TIME)
    for model in missing.unserved(self.trials):
      if self.schedule.plan.elapsed() < self.schedule.limit:
        self._serve(model)
    models = missing.untimed(self.trials)
    for index, model in enumerate(models):
      rounds, machine = self.place.rounds(
          model, self.schedule.allowed() / (len(models) - index),
          functools.partial(self.schedule.finish, TIME, len(
              step_cost.programs(self.config, model))))
      self.store.add({'fingerprint': step_cost.key(self.trials, model),
                      'phase': 'timing', 'model': model, 'rounds': rounds,
                      **({'machine': machine} if machine else {})})
    self.schedule.end()
