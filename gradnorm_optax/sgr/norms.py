"""Gradients back-propagated through time, and the norm of what arrives."""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
from jax import lax, numpy as jnp

from gradnorm_optax import _floats, _tree

PerExampleLoss = Callable[[Any, Any, jax.Array], jax.Array]


def deltas(
    per_example_loss: PerExampleLoss, params: Any, batch: Any,
    shape: tuple[int, int, int],
) -> jax.Array:
  r"""Computes the gradient of each example's loss by each pre-activation.

  .. math:: \delta_i(k) = \partial L_i / \partial a_i(k)

  for every example i and step k, by one backward pass through
  `per_example_loss`. Nothing is rescaled: entries below the range of the dtype
  are 0 (`contributions` takes care of that).

  Args:
    per_example_loss: `(params, batch, perturb) -> (B,)`, the losses. It adds
      `perturb` (T, B, H) to the pre-activations, and the loss of one example
      depends on no other example (no batch statistics).
    params: Parameters, any tree of real floating-point arrays.
    batch: Passed on.
    shape: (T, B, H), the shape of `perturb`.

  Returns:
    Array of `shape` in the widest dtype of the parameters, which is also that
    of `perturb`; cast it where the model computes in another.

  Raises:
    TypeError: A parameter is not real floating-point.
    ValueError: `shape` is no such triple, the losses have not shape (B,), or
      they make no use of `perturb`.

  Examples:
    >>> import gradnorm_optax as gn, jax, jax.numpy as jnp
    >>> def loss(w, u, perturb):
    ...   step = lambda z, inputs: (inputs[0] + w * z + inputs[1], None)
    ...   u = u.T[..., None]  # (T, B, H)
    ...   z, _ = jax.lax.scan(step, jnp.zeros(u.shape[1:]), (u, perturb))
    ...   return (z[:, 0] - 1) ** 2 / 2
    >>> u = jnp.array([[1., 0., 0.]])
    >>> print(gn.sgr.deltas(loss, jnp.array(.5), u, (3, 1, 1)).ravel())
    [-0.1875 -0.375  -0.75  ]

  References:
    Chernodub, Nowicki, `Sampling-based Gradient Regularization for Capturing
    Long-Term Dependencies in Recurrent Neural Networks
    <https://arxiv.org/abs/1606.07767>`_, 2016
  """
  shape = check_shape('deltas', shape)
  check_perturb('deltas', per_example_loss, params, batch, shape)
  return seeded_deltas(per_example_loss, params, batch, shape, None)


def seeded_deltas(
    per_example_loss: PerExampleLoss, params: Any, batch: Any,
    shape: tuple[int, ...], seed: jax.Array | None,
) -> jax.Array:
  """Returns seed x deltas, the backward pass itself run on the seed."""
  start = jnp.zeros(shape, widest(params, 'deltas'))
  losses, pull = jax.vjp(lambda e: per_example_loss(params, batch, e), start)
  check_losses(losses, shape)
  ones = jnp.ones_like(losses)
  return pull(ones if seed is None else ones * seed.astype(ones.dtype))[0]


def long_term_log_norm(
    deltas: jax.Array, horizon: Any, *, relative: bool = False
) -> jax.Array:
  r"""Computes the logarithm of the gradient norm `horizon` steps back.

  .. math:: Q_h = \log_{10} \frac{1}{B} \sum_i \lVert \delta_i(N - h) \rVert_2

  with N the last step; the relative form subtracts :math:`Q_0`. Norms neither
  overflow nor underflow where the entries do not. Where all entries are 0 the
  result is -inf.

  Args:
    deltas: (T, B, H), time first.
    horizon: h, an integer from 0 to T - 1; may be traced. A traced one out of
      this range gives NaN. "auto": nine tenths of T - 1, rounded.
    relative: Whether to measure against the norm at the last step.

  Returns:
    A scalar, float32 (float64 for float64 deltas).

  Raises:
    TypeError: The horizon is no integer and not "auto".
    ValueError: `deltas` is no real array of three axes, or the horizon is out
      of range.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> d = jnp.array([[[3e-30, 4e-30]], [[0., .5]]])  # two steps, one example
    >>> print(f'{gn.sgr.long_term_log_norm(d, 1):.3f}')
    -29.301
    >>> print(f'{gn.sgr.long_term_log_norm(d, 1, relative=True):.3f}')
    -29.000

  References:
    Chernodub, Nowicki, `Sampling-based Gradient Regularization for Capturing
    Long-Term Dependencies in Recurrent Neural Networks
    <https://arxiv.org/abs/1606.07767>`_, 2016
  """
  deltas = jnp.asarray(deltas)
  if deltas.ndim != 3 or not jnp.issubdtype(deltas.dtype, jnp.floating):
    raise ValueError(
        'long_term_log_norm: deltas must be (T, B, H), time first, real'
        f' floating-point, not {deltas.dtype} of shape {deltas.shape}.')
  horizon = check_horizon('long_term_log_norm', horizon, len(deltas))
  back = lax.dynamic_index_in_dim(
      deltas, len(deltas) - 1 - horizon, keepdims=False)
  result = log_mean_norm(back)
  if isinstance(horizon, jax.core.Tracer):
    # Indexing would clip it, or count from the other end.
    inside = (horizon >= 0) & (horizon < len(deltas))
    result = jnp.where(inside, result, jnp.full_like(result, jnp.nan))
  return result - log_mean_norm(deltas[-1]) if relative else result


def log_mean_norm(vectors: jax.Array) -> jax.Array:
  """Returns log10 of the mean norm of the rows."""
  dtype = _floats.accumulator([vectors])
  wide = vectors.astype(dtype)
  largest = lax.stop_gradient(jnp.max(jnp.abs(wide), initial=0))
  # A power of two, so that the scaling is exact.
  scale = _floats.inverse_magnitude(largest)
  squares = jnp.sum(lax.square(wide * scale), axis=-1)
  mean = jnp.mean(_floats.root(squares))
  return (jnp.log(mean) - jnp.log(scale)) / math.log(10)


def rows(array: Any, index: Any) -> jax.Array:
  """Takes examples; whole on every device where an explicit mesh cuts them."""
  spec = jax.typeof(array).sharding.spec
  if not spec or spec[0] is None:
    return array[index]
  places = jnp.arange(len(array), dtype=jnp.int32)[index]
  return array.at[places].get(
      out_sharding=jax.sharding.PartitionSpec(None, *spec[1:]))


def widest(params: Any, name: str) -> Any:
  """Returns the dtype of most bits in the tree; refuses integer leaves."""
  dtypes = []
  for leaf, path in zip(
      _tree.flatten(params)[0], _tree.paths(params), strict=True):
    if not _tree.is_hole(leaf):
      dtypes.append(require_real(leaf, path, name))
  return max(dtypes, key=lambda d: jnp.finfo(d).bits, default=jnp.float32)


def require_real(leaf: Any, path: str, name: str) -> Any:
  """Returns the dtype of a real floating-point leaf; else raises."""
  _, dtype = _tree.shape_dtype(leaf, path)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(
        f'{name}: leaf {path!r} is {dtype}, not real'
        ' floating-point. Keep counters, masks and complex numbers out of the'
        ' trained tree.')
  # NumPy's float64 is float32 to JAX unless x64 is on.
  return jax.dtypes.canonicalize_dtype(dtype)


def check_shape(name: str, shape: Any) -> tuple[int, int, int]:
  """Returns (T, B, H) as integers, all positive."""
  try:
    steps, batch, width = (operator.index(n) for n in shape)
  except (TypeError, ValueError):
    steps = batch = width = 0
  if min(steps, batch, width) < 1:
    raise ValueError(
        f'{name}(shape={shape}): must be three positive integers (T, B, H), the'
        ' shape of `perturb`.')
  return steps, batch, width


def check_horizon(name: str, horizon: Any, steps: int) -> Any:
  """Raises `ValueError` unless a concrete horizon lies in the sequence.

  "auto" reaches nine tenths of the sequence back, as in the study.
  """
  if isinstance(horizon, str) and horizon == 'auto':
    return round(0.9 * (steps - 1))
  if isinstance(horizon, jax.core.Tracer):
    return horizon
  horizon = integer(name, 'horizon', horizon)
  if not 0 <= horizon < steps:
    raise ValueError(
        f'{name}(horizon={horizon}): must be from 0 (the last step) to'
        f' {steps - 1} (the first of {steps} steps).')
  return horizon


def integer(name: str, what: str, value: Any) -> int:
  """Returns an argument as an integer, or raises `TypeError`."""
  try:
    if isinstance(value, bool):
      raise TypeError
    return operator.index(value)
  except TypeError:
    raise TypeError(f'{name}({what}={value!r}): must be an integer.') from None


def check_perturb(
    name: str, per_example_loss: PerExampleLoss, params: Any, batch: Any,
    shape: tuple[int, ...],
) -> None:
  """Raises `ValueError` where the losses plainly do not depend on `perturb`.

  Every delta would be 0, and every choice a random one.
  """
  traced = jax.make_jaxpr(lambda e: per_example_loss(params, batch, e))(
      jax.ShapeDtypeStruct(shape, widest(params, name))).jaxpr
  if not _uses(traced, traced.invars[0]):
    raise ValueError(
        f'{name}: per_example_loss makes no use of `perturb`, so that no'
        f' gradient is seen. Add it, shape {shape}, to the pre-activations of'
        ' its T steps.')


def _uses(traced: Any, variable: Any) -> bool:
  """Tells whether an equation reads the variable, looking into jit."""
  for equation in traced.eqns:
    for i, read in enumerate(equation.invars):
      if read is variable:
        inner = equation.params['jaxpr'].jaxpr if (
            equation.primitive.name in ('jit', 'pjit')) else None
        if inner is None or _uses(inner, inner.invars[i]):
          return True
  return False


def check_losses(losses: Any, shape: tuple[int, ...]) -> None:
  """Raises `ValueError` unless there is one loss for each example."""
  if not hasattr(losses, 'dtype'):
    raise ValueError(
        'per_example_loss must return the losses alone, one array of shape'
        f' ({shape[1]},), not a {type(losses).__name__}.')
  if losses.shape != (shape[1],) or (
      not jnp.issubdtype(losses.dtype, jnp.floating)):
    raise ValueError(
        'per_example_loss must return one loss for each example, real'
        f' floating-point of shape ({shape[1]},) for perturb {shape}; got'
        f' {losses.dtype} of shape {losses.shape}.')
