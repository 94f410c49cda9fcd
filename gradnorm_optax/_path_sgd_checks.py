"""What `path_sgd` refuses or warns about before it computes anything."""

import operator
import warnings
from typing import Any

import jax
import optax

from gradnorm_optax import _tree
from gradnorm_optax.paths import meshes, norms

NAME = 'normalize_by_path_scale'


def check_arguments(apply_fn: Any, x: Any, p: Any, refresh_every: Any) -> int:
  """Validates the factory's arguments; returns refresh_every as an int."""
  if not callable(apply_fn):
    raise TypeError(
        f'{NAME}: apply_fn must be a function (params, x) -> outputs, got '
        f"{apply_fn!r}. Under optax.inject_hyperparams add 'apply_fn' to "
        'static_args.'
    )
  if norms.is_traced(x):
    raise TypeError(
        f'{NAME}: x is a traced value, but only its shape matters. Give '
        'jax.ShapeDtypeStruct(x.shape, x.dtype); under '
        "optax.inject_hyperparams add 'x' to static_args."
    )
  norms.check_exponent(p)
  if isinstance(refresh_every, jax.core.Tracer):
    raise TypeError(
        f'{NAME}: refresh_every is a traced value, but it shapes the state. '
        "Under optax.inject_hyperparams add 'refresh_every' to static_args."
    )
  try:
    number = operator.index(refresh_every)
  except TypeError:
    raise TypeError(
        f'{NAME}: refresh_every must be an integer, got {refresh_every!r}'
    ) from None
  if number < 1:
    raise ValueError(f'{NAME}: refresh_every must be positive, got {number}')
  return number


def warn_untracked() -> None:
  """Warns where nobody can tell whether the parameters are whole."""
  axes = meshes.untracked_axes()
  if axes:
    warnings.warn(
        f'{NAME}: inside shard_map(check_vma=False) or pmap over {axes} JAX '
        'does not tell whether each device holds all parameters. The path '
        'scale is right if it does: say so by update(updates, state, params, '
        'full_params=params). If parameters are sharded over these axes, call '
        'update outside, under jit, on the whole arrays.',
        UserWarning,
        stacklevel=3,
    )


def check_whole(params: Any) -> None:
  """Raises where the parameters that paths run through are hidden."""
  for path, leaf in _tree.by_path(params).items():
    if isinstance(leaf, optax.MaskedNode):
      raise ValueError(
          f'{NAME}: parameter {path!r} is hidden by optax.masked or '
          'optax.partition, but paths run through the whole network. Call '
          'update(updates, state, params, full_params=params).'
      )
