"""Block norms recorded inside a chain, and read from its state."""

from typing import Any, NamedTuple

import jax
import optax
from jax import lax, numpy as jnp

from gradnorm_optax import _recorded, _tree
from gradnorm_optax._apply import check_decays
from gradnorm_optax._layout import resolve
from gradnorm_optax.blocks import as_blocks

__all__ = ['RecordBlockNormsState', 'block_means', 'block_norms',
           'block_ratios', 'record_block_norms']

_NAME = 'record_block_norms'


class RecordBlockNormsState(NamedTuple):
  """Norms of the last updates; what was not asked for is ()."""

  norms: dict[str, dict[str, jax.Array]]  # {name: {block label: norm}}
  ratios: Any = ()  # the same of norm / norm of the parameters
  means: Any = ()  # the same of the exponential mean of the finite norms
  seen: Any = ()  # the same of how many those are, int32
  count: Any = ()  # shape=(), dtype=int32, updates so far


def record_block_norms(
    name: str, blocks: Any = 'layer', *, axis_name: Any = None,
    every: int | None = None, ratio: bool = False, decay: float | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Keeps the L2 norm of each block of the updates; changes nothing.

  Put one in front of a normalization and one behind it, train, and read both
  with `block_norms`. Before the first update the norms are 0. Works inside
  `optax.masked`, `optax.partition`, `optax.MultiSteps` (where it records the
  accumulated gradient), `lax.scan`, Linen and NNX training states.

  With `ratio` it also keeps :math:`\lVert u_i \rVert / \lVert p_i \rVert` of
  updates and parameters (the last in a chain: by which share each block moves),
  0 for an update of zeros and inf where only the parameters are zero. With
  `decay` it also keeps the exponential mean of the norms :math:`x_1..x_n` read,

  .. math:: m_n = \sum_k d^{n-k} x_k \Big/ \sum_k d^{n-k}

  which leaves out what is not finite.

  Args:
    name: Under which `block_norms` finds the norms.
    blocks: A `gn.Blocks` or one of its kinds.
    axis_name: As in `gn.normalize_by_block_norm`.
    every: None, or n: reads in updates 0, n, 2n, ... and keeps that reading
      between them; the others compute no norm. (A `vmap` over states
      computes both sides of that choice.)
    ratio: Whether to keep `block_ratios`; then `update` needs `params`.
    decay: None, or in [0, 1): whether to keep `block_means`.

  Returns:
    A transformation with a `RecordBlockNormsState`: float32 scalars (float64
    where the tree has float64 leaves), arrays for stacked and unit blocks.

  Raises:
    ValueError: Two blocks have one label as strings; blocks do not fit; `every`
      or `decay` is out of range; `params` is missing where `ratio` needs it.
    TypeError: `name` is no string; a leaf is not a floating-point array.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp, optax
    >>> tx = optax.chain(gn.record_block_norms('raw'),
    ...                  gn.normalize_by_block_norm(),
    ...                  gn.record_block_norms('normalized'))
    >>> g = {'Dense_0': {'kernel': jnp.array([[3.]]), 'bias': jnp.array([4.])}}
    >>> _, state = tx.update(g, tx.init(g))
    >>> print(gn.block_norms(state, 'raw')['Dense_0'].round(3))
    5.0
    >>> sorted(gn.block_norms(state))
    ['normalized', 'raw']
  """
  _recorded.check_name(name, _NAME, 'block_norms')
  nth = _recorded.check_every(every, _NAME)
  if decay is not None:
    check_decays(_NAME, decay=decay)
  blocks = as_blocks(blocks, _NAME)

  def init(params):
    layout = None if _tree.is_placeholder(params) else resolve(
        blocks, params, _NAME)

    def zeros():
      # No norm is like a parameter; one number stands for all of them.
      return jnp.zeros([], jnp.float32) if layout is None else {
          name: _recorded.zeros(layout, _NAME)}

    state = RecordBlockNormsState(zeros())
    if ratio:
      state = state._replace(ratios=zeros())
    if decay is not None:
      state = state._replace(means=zeros(), seen=jax.tree.map(
          lambda x: jnp.zeros(x.shape, jnp.int32), zeros()))
    if nth > 1:
      state = state._replace(count=jnp.zeros([], jnp.int32))
    return state

  def update(updates, state, params=None, **extra_args):
    del extra_args
    if ratio:
      _tree.require_params(params, f'{_NAME}(ratio=True)')
      _tree.require_same(_NAME, updates, params, 'parameters')
    layout = resolve(blocks, updates, _NAME)
    _recorded.require_readings(state.norms, name, layout, _NAME)

    def read(updates, params, state):
      like = state.norms[name]
      norms = _recorded.norms(layout, updates, axis_name, like, _NAME)
      new = state._replace(norms={name: norms})
      if ratio:
        lengths = _recorded.norms(layout, params, axis_name, like, _NAME)
        new = new._replace(ratios={name: _recorded.ratios(norms, lengths)})
      if decay is not None:
        moved = {label: _recorded.mean_step(
            state.means[name][label], state.seen[name][label], norm, decay)
                 for label, norm in norms.items()}
        new = new._replace(
            means={name: {label: mean for label, (mean, _) in moved.items()}},
            seen={name: {label: seen for label, (_, seen) in moved.items()}})
      return new

    if nth > 1:
      new = lax.cond(
          _recorded.due(state.count, nth), read,
          lambda updates, params, state: state, updates, params, state)
      return updates, new._replace(count=optax.safe_increment(state.count))
    new = read(updates, params, state)
    if axis_name is None:
      # Without an order XLA shares the squares with an optimizer behind, and
      # writes them to memory. (Inside shard_map a barrier would make whole
      # leaves count as sharded.)
      updates, new = lax.optimization_barrier((updates, new))
    return updates, new

  return optax.GradientTransformationExtraArgs(init, update)


def block_norms(opt_state: Any, name: str | None = None) -> dict[str, Any]:
  """Reads the norms that `record_block_norms` kept.

  Args:
    opt_state: The state of a chain, wherever in it the recorders are; also a
      whole training state, an `nnx.Optimizer`'s `opt_state`, or what
      `nnx.split` makes of it.
    name: A recorder's name; None for all of them.

  Returns:
    {block label: norm}, or {name: {block label: norm}} without a name. Norms of
    recorders of one name (one in each part of an `optax.partition`) are merged.

  Raises:
    KeyError: No recorder has that name.
    ValueError: Two recorders of one name hold norms of the same block.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.record_block_norms('raw', 'leaf')
    >>> g = {'Dense_0': {'bias': jnp.array([3., 4.])}}
    >>> _, state = tx.update(g, tx.init(g))
    >>> print(gn.block_norms(state, 'raw')['Dense_0/bias'])
    5.0
  """
  return _read(opt_state, name, 'norms', 'block_norms', '')


def block_ratios(opt_state: Any, name: str | None = None) -> dict[str, Any]:
  """Reads the ratios of norms, updates to parameters, that recorders kept.

  Args:
    opt_state: As in `block_norms`.
    name: As in `block_norms`.

  Returns:
    As `block_norms`, of the recorders made with `ratio=True`.

  Raises:
    KeyError, ValueError: As `block_norms`.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp, optax
    >>> tx = optax.chain(optax.sgd(0.1),
    ...                  gn.record_block_norms('step', ratio=True))
    >>> params = {'kernel': jnp.array([[3.]]), 'bias': jnp.array([4.])}
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> print(f"{gn.block_ratios(state, 'step')['(root)']:.4f}")
    0.1000
  """
  return _read(opt_state, name, 'ratios', 'block_ratios', ' with ratio=True')


def block_means(opt_state: Any, name: str | None = None) -> dict[str, Any]:
  """Reads the exponential means of the norms that recorders kept.

  Args:
    opt_state: As in `block_norms`.
    name: As in `block_norms`.

  Returns:
    As `block_norms`, of the recorders made with `decay`. 0 before the first
    finite norm.

  Raises:
    KeyError, ValueError: As `block_norms`.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.record_block_norms('raw', decay=0.5)
    >>> state = tx.init({'bias': jnp.zeros(1)})
    >>> for g in (1.0, 4.0):
    ...   _, state = tx.update({'bias': jnp.array([g])}, state)
    >>> print(gn.block_means(state, 'raw')['(root)'])  # (0.5 * 1 + 4) / 1.5
    3.0
  """
  return _read(opt_state, name, 'means', 'block_means', ' with decay=...')


def _read(
    opt_state: Any, name: str | None, field: str, who: str, made: str
) -> dict[str, Any]:
  held = _recorded.states(opt_state, RecordBlockNormsState)
  found = _recorded.merged(
      (state[field] for state in held if not isinstance(state[field], tuple)),
      who, _NAME)
  return _recorded.named(found, name, who, f'recorder{made}')
