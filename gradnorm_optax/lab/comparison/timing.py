"""The cost of a step against the bare optimizer, measured interleaved.

A step of `sgr` that acts costs several times one in range: both are timed, and
count by the share of the comparison's own steps in which it acted.
"""

import statistics

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.comparison.runner import Runner
from gradnorm_optax.lab.methods import baselines
from gradnorm_optax.lab.results import store
from gradnorm_optax.lab.results.records import Clock
from gradnorm_optax.lab.support import provenance

FAR = 1e30  # no log norm comes near


def measure(runner: Runner) -> dict[tuple[str, str], Clock]:
  """Times every model's methods, or reads what the run folder knows.

  All methods of a model take turns, one call each in every round, in one
  thread with no other work of this process: whatever else slows the machine
  slows them alike.
  """
  timings = {}
  for model in runner.config.models:
    own = runner.config.methods_on(model)
    tables = {name: method.alone for name, method in own.items()}
    for method in list(tables.values()):
      base = baselines.bare(method)
      if base not in tables.values():
        tables[_alone(base)] = base
    rounds = _mixed(runner, model, tables)
    names = {table.model_dump_json(): name for name, table in tables.items()}
    for name in own:
      base = baselines.bare(tables[name])
      base_name = names[base.model_dump_json()]
      ratios = [a / b for a, b in zip(
          rounds[name], rounds[base_name], strict=True)]
      low, middle, high = statistics.quantiles(ratios, n=4)
      is_bare = base == tables[name]
      timings[model, name] = Clock(
          statistics.median(rounds[name]), None if is_bare else base_name,
          None if is_bare else (low, middle, high), tuple(rounds[name]))
  return timings


def _alone(base: schema.Method) -> str:
  """The name of a bare optimizer that is no row of its own."""
  if base.sampling is None:
    return f'{base.optimizer} alone'
  return f'{base.optimizer} alone, {base.sampling.size} examples'


def _mixed(runner: Runner, model: str,
           tables: dict[str, schema.Method]) -> dict[str, list[float]]:
  """Step seconds of every method in every round."""
  # Out of reach, or without an end: acts always, or never.
  halves = {name: (_within(table, FAR, FAR), _within(table, -FAR, FAR))
            for name, table in tables.items() if _two_sided(table)}
  programs = {name: table for name, table in tables.items()
              if name not in halves}
  for name, (acts, rests) in halves.items():
    programs |= {f'{name}, acting': acts, f'{name}, in range': rests}
  rounds = _rounds(runner, model, programs)
  for name in halves:
    share = runner.acted(model, name) or 0.0
    rounds[name] = [
        share * acting + (1 - share) * resting
        for acting, resting in zip(rounds[f'{name}, acting'],
                                   rounds[f'{name}, in range'], strict=True)]
  return rounds


def _two_sided(table: schema.Method) -> bool:
  return table.sampling is not None and table.sampling.rule == 'sgr'


def _within(table: schema.Method, low: float, high: float) -> schema.Method:
  """The method with another range of Q."""
  sampling = table.sampling and table.sampling.model_copy(
      update={'low': low, 'high': high})
  return table.model_copy(update={'sampling': sampling})


def _rounds(runner: Runner, model: str,
            tables: dict[str, schema.Method]) -> dict[str, list[float]]:
  """Step seconds of every program in every round."""
  key = store.fingerprint(
      timing=model, table=runner.config.models[model].model_dump(),
      methods={name: table.model_dump() for name, table in tables.items()},
      data=runner.digest, own=[
          runner.own[model, name]
          for name in runner.config.methods_on(model)],
      train=runner.config.train.model_dump(),
      rounds=runner.config.compare.timing_rounds,
      versions=provenance.versions(), machine=provenance.machine(),
      code=provenance.source_digest())
  known = runner.store.records.get(key)
  if known:
    return known['rounds']
  bench = runner.benches[model].alone
  rate = min(runner.config.compare.learning_rates)
  for table in tables.values():
    bench.compile(table)
    bench.time(table, rate)
  rounds: dict[str, list[float]] = {name: [] for name in tables}
  for index in range(runner.config.compare.timing_rounds):
    # Alternating the order cancels what a neighbour leaves in the caches.
    order = list(tables.items())[::1 if index % 2 else -1]
    for name, table in order:
      rounds[name].append(bench.time(table, rate))
  runner.store.add({'fingerprint': key, 'phase': 'timing', 'model': model,
                    'rounds': rounds})
  return rounds
