"""Runs the trials of a comparison that are missing, each once."""

import concurrent.futures
import functools
from collections.abc import Callable, Iterable
from typing import Any

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import (
  forward_timing,
  missing,
  preflight,
  timing,
)
from gradnorm_optax.lab.comparison.missing import Call, Job
from gradnorm_optax.lab.comparison.model_programs import Bench
from gradnorm_optax.lab.comparison.parallelism import placement
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
  grids,
  made_with as basis_lib,
  results_file,
  step_cost,
)
from gradnorm_optax.lab.results.look import instants
from gradnorm_optax.lab.results.store import Store
from gradnorm_optax.lab.results.trials import FRESH, PHASES, Pair, Trials
from gradnorm_optax.lab.support import provenance
from gradnorm_optax.lab.support.remaining import Remaining
from gradnorm_optax.lab.training import diagnosis, looks
from gradnorm_optax.lab.training.forward import forward


class Runner:
  """Runs the missing trials of a comparison and keeps every result.

  Attributes:
    trials: What is asked of the trials, once a folder is taken.
  """

  trials: Trials

  def __init__(self, config: schema.Config):
    """Loads the data and builds the models; writes nothing."""
    self.config = config
    dataset = sources.load(config.data, config.train)
    found = preflight.look(config, dataset)
    per_method = (len(config.compare.learning_rates)
                  * config.compare.tune_seeds)
    self.workers, self.batch = placement(config.compare, per_method)
    self.benches = {
        name: Bench(model, dataset, config.train, self.batch)
        for name, model in config.models.items()}
    # The user's code behind every row, whatever is edited or imported later.
    self.basis = basis_lib.here(
        config, provenance.data_digest(dataset[:3]), dataset.description,
        dataset.objective, dataset.deviation, found.scopes,
        together=self.batch > 1, examples=len(dataset.train.y),
        groups=dataset.groups)

  def use(self, store: Store, plan: Remaining | None = None) -> None:
    """Takes a folder, and a plan that is told what is done."""
    self.store = store
    self._take(self.config)
    self.schedule = Schedule(
        plan or Remaining(), self.trials, self.workers, self.batch)

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
    self.config = config
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
    for job in missing.jobs(self.trials):
      jobs.setdefault(self._bench(job).program(job.method), job)
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
      self._each(self._call, calls)
      self.schedule.count()

  def _bench(self, job: Job) -> Bench:
    bench = self.benches[job.model]
    return bench.alone if job.timed else bench

  def _compile(self, job: Job) -> None:
    """Compiles one program; a method that refuses the model says so."""
    bench = self._bench(job)
    with chain.refusing(job.method, bench.problem.context, bench.problem.init,
                        job.where):
      bench.compile(job.method)
    self.schedule.compiled(
        job, None if job.timed else bench.call_seconds(job.method))

  def _each(self, work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Does the work on every item in the worker threads."""
    pool = concurrent.futures.ThreadPoolExecutor(self.workers)
    try:
      for done in concurrent.futures.as_completed(
          [pool.submit(work, item) for item in items]):
        done.result()
    finally:
      pool.shutdown(cancel_futures=True)

  def _call(self, call: Call) -> None:
    """Runs one call and keeps its trials."""
    outcomes = self.benches[call.pair.model].run(
        self.config.methods[call.pair.method], call.rates, call.seeds,
        test=call.phase == 'final',
        evaluations=grids.early(self.config) if call.phase == 'early' else None)
    for rate, seed, outcome in zip(
        call.rates, call.seeds, outcomes, strict=True):
      self.store.add({
          'fingerprint': self.trials.key(call.phase, call.pair, rate, seed),
          'phase': call.phase, **call.pair._asdict(), 'rate': rate,
          'seed': seed, **outcome._asdict()})
    self.schedule.called(call)

  def _diagnose(self, pair: Pair) -> None:
    """Keeps where the first fresh run of a method went bad."""
    run = self.trials.lost(pair)
    assert run is not None, 'some run stayed finite'
    train = self.config.train
    text = diagnosis.of_trial(
        self.benches[pair.model].problem, self.config.methods[pair.method],
        train, run['rate'], run['seed'],
        len(run['history']['loss']) * train.eval_every)
    self.store.add({'fingerprint': self.trials.fault_key(pair),
                    'phase': 'fault', **pair._asdict(), 'text': text})

  def _look(self, pair: Pair) -> None:
    """Trains once more, and keeps what a method does to every block."""
    config = self.config
    found = looks.fresh(
        self.benches[pair.model].problem, config.train, *pair,
        config.methods[pair.method], rate=self.trials.chosen(pair), seed=FRESH,
        marks=instants(config.train.steps, config.compare.look),
        start=self.benches[pair.model].alone.start(FRESH),
        watch=schema.Watch())
    self.store.add({'fingerprint': self.trials.look_key(pair),
                    'phase': 'look', **found.record()})
    self.schedule.finish(LOOK)

  def _serve(self, model: str) -> None:
    """Keeps what a forward pass of a model costs."""
    bench = self.benches[model].alone
    problem = bench.problem
    passes = forward_timing.measure(
        forward(problem, *bench.start(FRESH)), problem.dataset.test)
    self.store.add({
        'fingerprint': forward_cost.key(self.trials, model),
        'phase': 'forward', 'model': model,
        'passes': [one._asdict() for one in passes]})

  def _time(self) -> None:
    """Times the steps of the models' methods, where that is not kept."""
    self.schedule.begin(TIME)
    for model in missing.unserved(self.trials):
      if self.schedule.plan.elapsed() < self.schedule.limit:
        self._serve(model)
    models = missing.untimed(self.trials)
    rate = min(self.config.compare.learning_rates)
    for index, model in enumerate(models):
      bench = self.benches[model].alone
      tables = step_cost.programs(self.config, model)
      rounds = timing.rounds(
          {name: functools.partial(bench.time, table, rate)
           for name, table in tables.items()}, bench.per_epoch,
          self.config.compare.timing_rounds,
          self.schedule.allowed() / (len(models) - index),
          functools.partial(self.schedule.finish, TIME, len(tables)))
      self.store.add({'fingerprint': step_cost.key(self.trials, model),
                      'phase': 'timing', 'model': model, 'rounds': rounds})
    self.schedule.end()
