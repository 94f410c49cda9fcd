"""Path-SGD: steps divided by the path scale of each parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradnorm_optax import _path_sgd_checks as checks, _tree
from gradnorm_optax._apply import as_wide_as, check_schedules
from gradnorm_optax.paths import meshes, norms

_NAME = checks.NAME


class NormalizeByPathScaleState(NamedTuple):
  """Holds the step count and, between refreshes, the last path scale."""

  count: jax.Array  # type: ignore[assignment]  # shape=(), dtype=int32
  gamma: Any  # like params, float32 or float64; () where refresh_every is 1


def normalize_by_path_scale(
    apply_fn: Callable[..., Any],
    x: Any,
    *,
    p: float = 2,
    refresh_every: int = 1,
) -> optax.GradientTransformationExtraArgs:
  r"""Divides the updates by the path scale of their parameters.

  With :math:`\gamma_p(w, e) = (\sum_{\text{paths} \ni e} \prod_{e' \ne e}
  |w_{e'}|^p)^{2/p}`, the scale of `path_scale` (Eq. 8 of [1]),

  .. math:: u_e \mapsto u_e / \gamma_p(w, e), \qquad 0 \text{ where }
            \gamma_p(w, e) = 0

  A step on these updates commutes with node-wise rescaling of a ReLU network
  (incoming weights of a unit times c, outgoing weights by c), also through
  momentum; not through Adam, AdaGrad, clipping by norm or weight decay after
  it. There is no epsilon: it would break the invariance.

  The scale is computed from the parameters, on one example, at steps 0, n, 2n,
  ... with n = `refresh_every`; one forward and one backward pass of a batch of
  one. It is computed in float32 (float64 where some parameter is float64),
  unrescaled: where it overflows, the update is 0, as u / inf; where it
  underflows to 0, likewise. NaN or inf in an update stays in its entries.

  `update` takes two extra arguments. `apply_args` is a tuple of further
  arguments for `apply_fn`, called as `apply_fn(params, x, *apply_args)`; batch
  statistics, for example. `full_params` is the whole parameter tree: needed
  under `optax.masked` and `optax.partition`, which hide a part of `params` that
  paths still run through. Under `optax.inject_hyperparams` every argument here
  belongs in `static_args`.

  Inside `shard_map`, a parameter that varies over a mesh axis is one device's
  part, and refused: call `update` outside, under `jit`, on the whole arrays.
  With `check_vma=False`, and inside `pmap`, JAX cannot tell: a warning, unless
  `full_params=params` says that they are whole. Under `jit` any layout on any
  mesh will do.

  Args:
    apply_fn: The network, pure, called as `apply_fn(params, x)`. It returns
      logits: what has a path norm (see `path_norm`).
    x: One example, or a batch of one; only shapes and dtypes matter
      (`jax.ShapeDtypeStruct` allowed).
    p: The exponent of the path norm, at least 1.
    refresh_every: How many steps one scale serves.

  Returns:
    A transformation that needs `params`; each output leaf keeps its dtype.
    `init` and `update` raise a TypeError that names a leaf that is not real
    floating-point.

  Raises:
    TypeError: An argument has the wrong type, or is a traced value.
    ValueError: p or refresh_every is out of range.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> import gradnorm_optax as gn
    >>> params = [jnp.array([[1., -2.], [3., .5]]), jnp.array([[2.], [-1.]])]
    >>> net = lambda w, x: jax.nn.relu(x @ w[0]) @ w[1]
    >>> tx = gn.normalize_by_path_scale(net, jnp.zeros((1, 2)))
    >>> ones = jax.tree.map(jnp.ones_like, params)
    >>> updates, _ = tx.update(ones, tx.init(params), params)
    >>> print(updates[0])
    [[0.25 1.  ]
     [0.25 1.  ]]

  References:
    [1] Neyshabur, Salakhutdinov, Srebro, `Path-SGD: Path-Normalized
    Optimization in Deep Neural Networks <https://arxiv.org/abs/1506.02617>`_,
    2015
  """
  refresh_every = checks.check_arguments(apply_fn, x, p, refresh_every)
  p = float(p)
  p = int(p) if p.is_integer() else p
  shapes = norms.as_shapes(x)

  def scale(params: Any, apply_args: tuple[Any, ...]) -> Any:
    return norms.raw_path_scale(apply_fn, params, shapes, p, apply_args)

  compiled = jax.jit(scale)

  def init_fn(params: Any) -> NormalizeByPathScaleState:
    norms.check_params(params)
    gamma: Any = ()
    if refresh_every > 1:
      gamma = optax.tree.zeros_like(params, norms.lifted_dtype(params))
    return NormalizeByPathScaleState(jnp.zeros([], jnp.int32), gamma)

  def update_fn(
      updates: Any,
      state: NormalizeByPathScaleState,
      params: Any = None,
      *,
      apply_args: tuple[Any, ...] = (),
      full_params: Any = None,
      **extra_args: Any,
  ) -> tuple[Any, NormalizeByPathScaleState]:
    del extra_args
    _tree.require_params(params, _NAME)
    _tree.require_same(_NAME, updates, params, 'params')
    norms.check_params(updates)
    whole = params if full_params is None else full_params
    norms.check_params(whole)
    checks.check_whole(whole)
    meshes.require_whole(whole, f'{_NAME}: parameter')
    meshes.require_whole(apply_args, f'{_NAME}: apply_args')
    if full_params is None:
      checks.warn_untracked()
    norms.warn_of_batch(apply_fn, whole, shapes, apply_args)

    def compute() -> list[jax.Array]:
      traced = norms.is_traced((whole, apply_args))
      gamma = (scale if traced else compiled)(whole, apply_args)
      return _pick(gamma, names)

    names = list(_by_path(params))

    if refresh_every == 1:
      gamma, kept = compute(), ()
    else:
      old, treedef = jax.tree.flatten(state.gamma)
      gamma = jax.lax.cond(
          state.count % refresh_every == 0, compute, lambda: old
      )
      kept = jax.tree.unflatten(treedef, gamma)
    scales = dict(zip(names, gamma, strict=True))
    leaves = [_divide(u, scales[at]) for at, u in _by_path(updates).items()]
    treedef = jax.tree.structure(updates)
    count = optax.safe_increment(state.count)
    new_state = NormalizeByPathScaleState(count, kept)
    return jax.tree.unflatten(treedef, leaves), new_state

  return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def path_sgd(
    learning_rate: optax.ScalarOrSchedule,
    apply_fn: Callable[..., Any],
    x: Any,
    *,
    p: float = 2,
    momentum: float | None = None,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
  r"""Descends along the steepest direction of the path regularizer.

  .. math:: w_e \leftarrow w_e - \frac{\eta}{\gamma_p(w, e)}
            \frac{\partial L}{\partial w_e}

  (Algorithm 1 of [1]), with the scale of `path_scale`. The trajectory of
  outputs does not depend on how a ReLU network's units are balanced. The
  learning rate needs a grid of its own: the paper searches 10^-alpha, alpha =
  0..10.

  Args:
    learning_rate: A number or a schedule.
    apply_fn: As for `normalize_by_path_scale`.
    x: As for `normalize_by_path_scale`.
    p: As for `normalize_by_path_scale`.
    momentum: Decay of the momentum on scaled updates; None for none.
    nesterov: Whether the momentum is Nesterov's.

  Returns:
    The optimizer; `update` passes `apply_args` and `full_params` on.

  Raises:
    TypeError: An argument has the wrong type, or is a traced value.
    ValueError: p is less than 1.

  Examples:
    >>> import jax, jax.numpy as jnp, numpy as np, optax
    >>> import gradnorm_optax as gn
    >>> w = [jnp.array([[1., -2.], [3., .5]]), jnp.array([2., -1.])]
    >>> net = lambda w, x: jax.nn.relu(x @ w[0]) @ w[1]
    >>> tx = gn.path_sgd(.01, net, jnp.zeros(2))
    >>> loss = lambda w: (net(w, jnp.array([-1., 2.])) - 1) ** 2 / 2
    >>> updates, _ = tx.update(jax.grad(loss)(w), tx.init(w), w)
    >>> for leaf in optax.apply_updates(w, updates):
    ...   print(np.asarray(leaf).round(3))
    [[ 1.03 -2.06]
     [ 2.94  0.62]]
    [ 1.97  -1.042]

  References:
    [1] Neyshabur, Salakhutdinov, Srebro, `Path-SGD: Path-Normalized
    Optimization in Deep Neural Networks <https://arxiv.org/abs/1506.02617>`_,
    2015
  """
  check_schedules('path_sgd', learning_rate=learning_rate)
  parts = [normalize_by_path_scale(apply_fn, x, p=p)]
  if momentum is not None:
    parts.append(optax.trace(decay=momentum, nesterov=nesterov))
  chain = optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))

  def update(updates, state, params=None, **extra_args):
    with jax.numpy_dtype_promotion('standard'):  # optax relies on it
      result, state = chain.update(updates, state, params, **extra_args)
    return as_wide_as(result, params), state

  return optax.GradientTransformationExtraArgs(chain.init, update)


def _by_path(tree: Any) -> dict[str, Any]:
  """Returns the leaves of a tree by path, holes left out."""
  return {path: leaf for path, leaf in _tree.by_path(tree).items()
          if not _tree.is_hole(leaf)}


def _pick(gamma: Any, paths: list[str]) -> list[jax.Array]:
  """Returns the scales of the leaves at these paths."""
  by_path = _by_path(gamma)
  missing = [path for path in paths if path not in by_path]
  if missing:
    raise ValueError(
        f'{_NAME}: full_params has no leaf {missing[0]!r}, which params has. '
        'Both must be one tree, apart from masked leaves.'
    )
  return [by_path[path] for path in paths]


def _divide(update: jax.Array, gamma: jax.Array) -> jax.Array:
  """Returns update / gamma in the update's dtype, 0 where gamma is 0."""
  update = jnp.asarray(update)
  wide = np.float64 if update.dtype == np.float64 else gamma.dtype
  gamma = gamma.astype(wide)
  # u / inf is 0, and still shows a NaN.
  divisor = jnp.where(gamma == 0, jnp.full_like(gamma, jnp.inf), gamma)
  return (update.astype(wide) / divisor).astype(update.dtype)
