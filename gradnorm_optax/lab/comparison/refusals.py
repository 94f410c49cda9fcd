"""What every method acts on, and which models it refuses: before compiling."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import chain, scope
from gradnorm_optax.lab.training.problem import Problem

# {model: {method: what its parts act on}}
Scopes = dict[str, dict[str, tuple[scope.Scope, ...]]]


def look(config: schema.Config, problems: Mapping[str, Problem]
         ) -> tuple[Scopes, list[str]]:
  """Traces every method's step on every model; compiles nothing.

  Returns:
    What those act on that refuse no model, and a line for each refusal, with
    what to do.
  """
  found: Scopes = {}
  refused: dict[str, dict[str, str]] = {}  # {method: {model: why}}
  for model, problem in problems.items():
    params, _ = jax.eval_shape(problem.init, 0)
    found[model] = {}
    for name, method in config.methods_on(model).items():
      why = chain.refusal(method, problem.context, functools.partial(
          _zeros, params))
      if why is None:
        found[model][name] = scope.scopes(method, params, problem.context)
      else:
        refused.setdefault(name, {})[model] = why
  return found, [
      _line(name, model, why, config, models)
      for name, models in refused.items() for model, why in models.items()]


def _zeros(params: Any, seed: int) -> tuple[Any, Any]:
  """Parameters of those shapes, to be traced."""
  del seed
  return jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params), {}


def _line(name: str, model: str, why: str, config: schema.Config,
          refused: Mapping[str, str]) -> str:
  """One refusal and its mend."""
  others = [other for other in config.models
            if other not in refused and name in config.methods_on(other)]
  mend = f'set methods.{name}.models = {others}' if others else (
      f'take [methods.{name}] out')
  return (f'[methods.{name}] on [models.{model}]: change the model, or {mend}: '
          f'{why}')
