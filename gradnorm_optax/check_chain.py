"""Orders of a chain that undo themselves, found by probing it."""

import warnings
from typing import Any

import optax

from gradnorm_optax import _chain_blocks, _chain_orders, _chain_weight_norm
from gradnorm_optax._findings import Finding as Finding, Findings
from gradnorm_optax._probes import PATIENCE, Chain, Start

__all__ = ['Finding', 'check_chain']


def check_chain(
    tx: optax.GradientTransformation, params: Any, **extra_args: Any
) -> list[Finding]:
  """Finds orders of transformations in a chain that undo themselves.

  It calls `tx.init` and `tx.update` on random parameters of the model's shapes
  with gradients made for the question, and compares what comes out:

  * clipping by the norm in front of a normalization (undone), or behind it (a
    factor on the learning rate);
  * normalization of micro-batches before they are accumulated;
  * something behind `gn.weight_normalized`, which must be the last;
  * weight decay on the v of weight normalization;
  * normalization under `optax.masked` or `optax.partition` that cuts its blocks
    in two, and under `optax.flatten`, which joins them all.

  What shows in no update is not found: a clip behind a normalization whose
  threshold is never reached, or one in front with a threshold outside of 1e-3
  to 100; the last two are seen for this library's transformations only. Under
  more than 64 updates that move nothing (accumulation, warm-up) a finding says
  that nothing could be probed.

  Args:
    tx: A chain, or any optax transformation.
    params: Arrays or `jax.ShapeDtypeStruct`; only shapes and places count, and
      a small model of the same build tells as much as a large one.
    **extra_args: What `tx.update` needs besides.

  Returns:
    A list of `Finding`, named tuples (what, where, mend) that print themselves,
    as the list does; empty where nothing was found.

  Raises:
    TypeError: `tx` is no transformation. What `tx` itself raises passes.

  Examples:
    >>> import gradnorm_optax as gn, jax, optax
    >>> params = {'Dense_0': {'kernel': jax.ShapeDtypeStruct((3, 2), 'float32')},
    ...           'Dense_1': {'kernel': jax.ShapeDtypeStruct((2, 2), 'float32')}}
    >>> print(gn.check_chain(gn.bng(optax.adam(1e-3)), params))
    nothing found
    >>> tx = optax.chain(optax.clip_by_global_norm(1.0),
    ...                  gn.normalize_by_block_norm(), optax.sgd(0.1))
    >>> [finding.mend for finding in gn.check_chain(tx, params)]
    ['leave it out. What bounds a step is the learning rate; ...']
  """  # noqa: E501
  if not (hasattr(tx, 'init') and hasattr(tx, 'update')):
    raise TypeError(
        f'check_chain(tx={tx!r}): an optax transformation, as optax.chain(...)'
        ' returns it.')
  found = Findings()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # a doubt is no question of order
    tx = optax.with_extra_args_support(tx)
    with _chain_blocks.hearing() as heard:
      chain = Chain(tx, params, extra_args)
    if not chain.paths:
      return found
    start = Start(chain)
    found.extend(_chain_blocks.findings(heard, chain.params, start.frozen))
    if not start.period:
      found.append(Finding(
          f'no parameter moved in {PATIENCE} updates, so the order could not be'
          ' probed', 'the whole chain',
          'check a copy whose learning rate is above 0 from the start, and with'
          ' fewer micro-batches.'))
      return found
    found.extend(_chain_orders.normalized_before_accumulation(start))
    if names := _chain_blocks.normalizers(heard):
      found.extend(_chain_orders.clipped_around_normalization(start, names))
    if _chain_weight_norm.states(chain.fresh):
      found.extend(_chain_weight_norm.not_outermost(tx, params, extra_args))
      found.extend(_chain_weight_norm.decay_of_v(start))
  return found
