"""Runs the trials of a comparison that are missing, each once."""

import concurrent.futures
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison import preflight, timing
from gradnorm_optax.lab.comparison.model_programs import Bench
from gradnorm_optax.lab.comparison.parallelism import placement
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.methods import chain
from gradnorm_optax.lab.results import made_with as basis_lib, step_cost
from gradnorm_optax.lab.results.store import Store
from gradnorm_optax.lab.results.trials import FRESH, Pair, Trials
from gradnorm_optax.lab.support import provenance
from gradnorm_optax.lab.training import norms_of_first_batches


class Call(NamedTuple):
  """The trials of one call of a compiled program."""

  phase: str
  pair: Pair
  rates: tuple[float, ...]
  seeds: tuple[int, ...]


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
        dataset.objective, dataset.deviation, found.scopes)

  def use(self, store: Store, tick: Callable[[str, int], None]) -> None:
    """Takes a folder; `tick(what, finished trials)` reports progress."""
    self.store, self.tick = store, tick
    self.trials = Trials(store.records, self.config, self.basis)

  def run(self) -> None:
    """Runs both phases, looks at the first batches and times the steps."""
    for phase in ('tune', 'final'):
      self.finish(phase)
    if self.config.compare.look:
      self.tick('looking at the norms of the blocks', 0)
      self._each(self._look, [
          pair for pair in self.trials.pairs()
          if self.trials.look_key(pair) not in self.store.records])
    self.tick('measuring the cost of a step', 0)
    for model in self.config.models:
      self._time(model)

  def calls(self, phase: str) -> Iterator[Call]:
    """The calls that a phase still needs, the slowest models first."""
    asked: set[str] = set()
    for model in reversed(list(self.config.models)):
      for method in self.config.methods_on(model):
        pair, todo = Pair(model, method), []
        for rate, seed in self.trials.missing(phase, pair):
          key = self.trials.key(phase, pair, rate, seed)
          if key not in asked:  # of equal methods one is run
            asked.add(key)
            todo.append((rate, seed))
        for at in range(0, len(todo), self.batch):
          rates, seeds = zip(*todo[at:at + self.batch], strict=True)
          yield Call(phase, pair, rates, seeds)

  def finish(self, phase: str) -> None:
    """Runs what a phase still needs."""
    calls = list(self.calls(phase))
    self.tick(phase, self.trials.planned(phase) - sum(
        len(call.seeds) for call in calls))
    self._compile(calls)
    self._each(self._call, calls)

  def _compile(self, calls: list[Call]) -> None:
    """Compiles what the calls need, all cores at once."""
    models = dict.fromkeys(call.pair.model for call in calls)
    pairs = dict.fromkeys(call.pair for call in calls)
    self.tick(f'compiling {len(pairs)} programs', 0)
    self._each(lambda name: self.benches[name].warm(), models)
    self._each(self._compile_one, pairs)

  def _compile_one(self, pair: Pair) -> None:
    """Compiles one program; a method that refuses the model says so."""
    method, bench = self.config.methods[pair.method], self.benches[pair.model]
    with chain.refusing(
        method, bench.problem.context, bench.problem.init,
        f'[methods.{pair.method}] on [models.{pair.model}]'):
      bench.compile(method)

  def _each(self, work: Callable[[Any], None], items: Any) -> None:
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
        test=call.phase == 'final')
    for rate, seed, outcome in zip(
        call.rates, call.seeds, outcomes, strict=True):
      self.store.add({
          'fingerprint': self.trials.key(call.phase, call.pair, rate, seed),
          'phase': call.phase, **call.pair._asdict(), 'rate': rate,
          'seed': seed, **outcome._asdict()})
      self.tick(' '.join(call.pair), 1)

  def _look(self, pair: Pair) -> None:
    """Keeps the norms of one method's first batches."""
    found = norms_of_first_batches.look(
        self.benches[pair.model].problem, self.config.train, *pair,
        self.config.methods[pair.method], rate=self.trials.chosen(pair),
        seed=FRESH, batches=self.config.compare.look)
    self.store.add({'fingerprint': self.trials.look_key(pair),
                    'phase': 'look', **found.record()})

  def _time(self, model: str) -> None:
    """Times the steps of a model's methods, unless that is kept."""
    key, compare = step_cost.key(self.trials, model), self.config.compare
    if key not in self.store.records:
      rounds = timing.rounds(
          self.benches[model].alone, step_cost.programs(self.config, model),
          min(compare.learning_rates), compare.timing_rounds)
      self.store.add({'fingerprint': key, 'phase': 'timing', 'model': model,
                      'rounds': rounds})
