"""The cost of a step against the bare optimizer, from the kept rounds.

A step of `sgr` that acts costs several times one in range: both are timed, and
count by the share of the comparison's own steps in which it acted.
"""

import itertools
import statistics
from collections.abc import Iterator

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import bare_optimizer
from gradnorm_optax.lab.results import time_ratio
from gradnorm_optax.lab.results.costs import Clock
from gradnorm_optax.lab.results.store import fingerprint
from gradnorm_optax.lab.results.trials import Pair, Trials

FAR = 1e30  # no log norm comes near

Rounds = dict[str, list[float]]  # {program: seconds of a step in every round}


def key(trials: Trials, model: str) -> str:
  """The fingerprint of the rounds of one model."""
  config, basis = trials.config, trials.basis
  return fingerprint(
      timing=model, table=config.models[model].model_dump(),
      methods={name: table.model_dump()
               for name, table in programs(config, model).items()},
      data=basis.data, own=[basis.user_code(model, name)
                            for name in config.methods_on(model)],
      train=config.train.model_dump(), rounds=config.compare.timing_rounds,
      versions=basis.versions, machine=basis.machine, code=basis.code)


def programs(config: schema.Config, model: str) -> dict[str, schema.Method]:
  """What is timed on a model: every method, its bare optimizer, both halves."""
  found = {}
  for name, table in _tables(config, model).items():
    if _two_sided(table):  # out of reach, or without an end
      found[f'{name}, acting'] = _within(table, FAR, FAR)
      found[f'{name}, in range'] = _within(table, -FAR, FAR)
    else:
      found[name] = table
  return found


def clocks(trials: Trials, model: str) -> dict[str, Clock]:
  """{method: times} on one model, whose rounds are kept."""
  tables = _tables(trials.config, model)
  rounds = time_ratio.level({
      name: _mixed(trials, model, name, table)
      for name, table in tables.items()})
  names = {table.model_dump_json(): name for name, table in tables.items()}
  found = {}
  for name in trials.config.methods_on(model):
    base = bare_optimizer.bare(tables[name])
    base_name = names[base.model_dump_json()]
    ratio, low, high = time_ratio.ratio(rounds[name], rounds[base_name])
    is_bare = base == tables[name]
    # Interrupted again and again, long calls seem to take less than short ones.
    known = min(map(statistics.median, (rounds[name], rounds[base_name]))) > 0
    found[name] = Clock(
        statistics.median(rounds[name]), None if is_bare else base_name,
        None if is_bare or not known else (low, ratio, high),
        tuple(rounds[name]))
  return found


def _tables(config: schema.Config, model: str) -> dict[str, schema.Method]:
  """The methods of a model, and the bare optimizers that are no row."""
  tables = {name: method.alone
            for name, method in config.methods_on(model).items()}
  for method in list(tables.values()):
    base = bare_optimizer.bare(method)
    if base not in tables.values():
      tables[next(name for name in _names(base) if name not in tables)] = base
  return tables


def _names(base: schema.Method) -> Iterator[str]:
  """Names of a bare optimizer, longer and longer, for another may have one."""
  yield (name := _alone(base))
  yield (name := ', '.join([name, *(
      f'{key} = {value}' for key, value in base.options.items())]))
  yield from (f'{name} ({number})' for number in itertools.count(2))


def _alone(base: schema.Method) -> str:
  """The name of a bare optimizer that is no row of its own."""
  if base.sampling is None:
    return f'{base.optimizer} alone'
  size = base.sampling.size
  return (f'{base.optimizer} alone, '
          f'{"a fifth of the" if size == "auto" else size} examples')


def _mixed(trials: Trials, model: str, name: str,
           table: schema.Method) -> list[float]:
  """Step seconds of a method in every round, acting as often as it did."""
  rounds: Rounds = trials.records[key(trials, model)]['rounds']
  if not _two_sided(table):
    return rounds[name]
  share = trials.acted(Pair(model, name)) or 0.0
  return [share * acting + (1 - share) * resting for acting, resting in zip(
      rounds[f'{name}, acting'], rounds[f'{name}, in range'], strict=True)]


def _two_sided(table: schema.Method) -> bool:
  return table.sampling is not None and table.sampling.rule == 'sgr'


def _within(table: schema.Method, low: float, high: float) -> schema.Method:
  """The method with another range of Q."""
  sampling = table.sampling and table.sampling.model_copy(
      update={'low': low, 'high': high})
  return table.model_copy(update={'sampling': sampling})
