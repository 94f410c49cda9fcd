"""What a model's answers cost, from the kept measurement."""

from gradnorm_optax.lab.results.costs import Pass
from gradnorm_optax.lab.results.store import fingerprint
from gradnorm_optax.lab.results.trials import Trials


def key(trials: Trials, model: str) -> str:
  """The fingerprint of the measurement; how many methods there are does not
  matter."""
  config, basis = trials.config, trials.basis
  return fingerprint(
      forward=model, table=config.models[model].model_dump(),
      dtype=config.train.dtype, data=basis.data,
      own=sorted({tuple(basis.user_code(model, name))
                  for name in config.methods_on(model)}),
      versions=basis.versions, machine=basis.machine, code=basis.code)


def of(trials: Trials, model: str) -> tuple[Pass, ...]:
  """The forward passes of a model; () of a folder of an earlier version."""
  record = trials.records.get(key(trials, model))
  return tuple(Pass(**one) for one in record['passes']) if record else ()
