"""The rows of the contract battery: one for each transformation.

A new transformation adds one `Row`; every rule of test_contract*.py then runs
on it. A rule that cannot hold for a row is named in the row, with the reason.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
import references
from jax import numpy as jnp

import gradnorm_optax as gn

DTYPES = ('float32', 'bfloat16', 'float16', 'float64')
TOLERANCE = {'float32': 1e-5, 'bfloat16': 2e-2, 'float16': 3e-3,
             'float64': 1e-12}
LAYERS = ('Dense_0', 'Dense_1')
SHAPES = {
    'Dense_0/bias': (3,), 'Dense_0/kernel': (4, 3),
    'Dense_1/bias': (2,), 'Dense_1/kernel': (3, 2)}


def network(params, x):
  """A ReLU network on any tree of the four arrays of `SHAPES`, in order."""
  b0, w0, b1, w1 = jax.tree.leaves(params)
  return jax.nn.relu(x.astype(w0.dtype) @ w0 + b0) @ w1 + b1


INPUT = jax.ShapeDtypeStruct((4,), 'float32')


def sampling(size, *, low, high):
  """Gives `gn.regularize_by_sampling` a batch of four equal gradients.

  It takes per-example gradients; the mean of any selection of equal ones is
  the gradient itself. Real batches are in tests/sgr.
  """
  tx = gn.regularize_by_sampling(size, low=low, high=high)

  def update(updates, state, params=None, **extra_args):
    batch = jax.tree.map(lambda g: jnp.stack([g] * 4), updates)
    return tx.update(
        batch, state, params, long_term_log_norm=jnp.float32(0.0),
        long_term_grad=updates, key=jax.random.key(0), **extra_args)

  return optax.GradientTransformationExtraArgs(tx.init, update)


class Row(NamedTuple):
  """One transformation and what it should do.

  Attributes:
    name: As public; error messages hold it.
    make: Builds it, with the keyword arguments of `options`.
    options: Keyword arguments, also numbers that `inject_hyperparams` injects.
    reference: (updates, params) -> updates of the first step.
    static_args: For `optax.inject_hyperparams`.
    needs_params: Whether `update` without params must raise.
    has_state: Whether the state holds arrays.
    unit_norm: Whether each nonzero block comes out with norm one.
    whole: Whether it needs the whole network, not a masked part of it.
    optax_inside: Whether optax's own code runs inside; that code relies on
      ordinary dtype promotion.
  """

  name: str
  make: Callable[..., optax.GradientTransformationExtraArgs]
  options: dict[str, Any]
  reference: Callable[..., dict[str, np.ndarray]]
  static_args: tuple[str, ...] = ()
  needs_params: bool = False
  has_state: bool = False
  unit_norm: bool = False
  whole: bool = False
  optax_inside: bool = False
  telemetry: bool = False

  def tx(self) -> optax.GradientTransformationExtraArgs:
    return self.make(**self.options)

  def promotion(self):
    return jax.numpy_dtype_promotion(
        'standard' if self.optax_inside else 'strict')


ROWS = [
    Row('normalize_by_block_norm', gn.normalize_by_block_norm,
        {'eps': 0.0}, references.block_normalized, unit_norm=True),
    Row('scale_by_block_param_norm', gn.scale_by_block_param_norm,
        {'ratio': 0.05, 'min_norm': 0.5},
        functools.partial(
            references.param_norm_scaled, ratio=0.05, min_norm=0.5),
        needs_params=True),
    Row('bng', functools.partial(gn.bng, optax.trace(decay=0.9)),
        {'ratio': 0.05},
        lambda g, p: references.param_norm_scaled(
            references.block_normalized(g, p), p, ratio=0.05),
        needs_params=True, has_state=True, optax_inside=True),
    Row('centralize', gn.centralize, {}, references.centralized),
    Row('standardize', gn.standardize, {'eps': 1e-8},
        references.standardized),
    Row('scale_by_softplus_adam', gn.scale_by_softplus_adam,
        {'b1': 0.8, 'b2': 0.95, 'beta': 20.0},
        functools.partial(
            references.softplus_adam, b1=0.8, b2=0.95, beta=20.0),
        has_state=True),
    Row('sing', gn.sing, {'learning_rate': 0.1, 'weight_decay': 0.01},
        functools.partial(
            references.sing, learning_rate=0.1, weight_decay=0.01),
        needs_params=True, has_state=True, optax_inside=True),
    Row('record_block_norms',
        functools.partial(gn.record_block_norms, 'norms'), {},
        lambda g, p: g, has_state=True, telemetry=True),
    Row('watch', functools.partial(gn.watch, 'watched'), {},
        lambda g, p: g, static_args=('learn', 'tail', 'margin'),
        has_state=True, telemetry=True),
    Row('normalize_by_path_scale', gn.normalize_by_path_scale,
        {'apply_fn': network, 'x': INPUT},
        functools.partial(references.path_normalized, layers=LAYERS),
        static_args=('apply_fn', 'x', 'p', 'refresh_every'),
        needs_params=True, has_state=True, whole=True),
    Row('path_sgd', gn.path_sgd,
        {'learning_rate': 0.1, 'apply_fn': network, 'x': INPUT},
        lambda g, p: {
            path: -0.1 * u for path, u in references.path_normalized(
                g, p, layers=LAYERS).items()},
        static_args=('apply_fn', 'x', 'p', 'momentum', 'nesterov'),
        needs_params=True, has_state=True, whole=True, optax_inside=True),
    Row('weight_normalized', functools.partial(
        gn.weight_normalized, optax.sgd(0.1)), {},
        functools.partial(
            references.weight_normalized_sgd, learning_rate=0.1),
        needs_params=True, has_state=True, optax_inside=True),
    Row('regularize_by_sampling', sampling,
        {'size': 2, 'low': -1.0, 'high': 1.0}, lambda g, p: g,
        static_args=('size',), has_state=True),
]


def rows(keep: Callable[[Row], bool] = lambda row: True):
  """Parametrizes a test by the rows for which its rule holds."""
  kept = [row for row in ROWS if keep(row)]
  return pytest.mark.parametrize('row', kept, ids=[row.name for row in kept])


def numbers(seed: int) -> dict[str, np.ndarray]:
  """Returns {path: float64 array} for the small network."""
  rng = np.random.default_rng(seed)
  return {path: rng.normal(size=shape) for path, shape in SHAPES.items()}


def nest(flat: dict[str, Any]) -> dict[str, Any]:
  """Turns {path: leaf} into nested dicts."""
  tree: dict[str, Any] = {}
  for path, leaf in flat.items():
    *parents, name = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = leaf
  return tree


def flat(tree: Any) -> dict[str, np.ndarray]:
  """Turns nested dicts into {path: float64 array}."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {'/'.join(str(k.key) for k in keys): np.asarray(leaf, np.float64)
          for keys, leaf in leaves}


def arrays(values: dict[str, np.ndarray], dtype: str = 'float32') -> Any:
  return nest({path: jnp.asarray(v, dtype) for path, v in values.items()})


def problem(dtype: str = 'float32', seed: int = 0) -> tuple[Any, Any]:
  """Returns gradients and parameters of the small network."""
  return arrays(numbers(seed), dtype), arrays(numbers(seed + 1), dtype)
