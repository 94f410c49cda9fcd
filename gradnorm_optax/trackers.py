"""From a state to a tracker: plain numbers by name, and who is told them."""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradnorm_optax import _recorded
from gradnorm_optax.telemetry import block_means, block_norms, block_ratios
from gradnorm_optax.watch import watch_report

__all__ = ['send_telemetry', 'telemetry_scalars']

Hook = Callable[[int, dict[str, float]], Any]


def telemetry_scalars(opt_state: Any) -> dict[str, float]:
  """Reads all recorders and watchers into one flat dict of floats.

  Args:
    opt_state: As in `gn.block_norms`; on the host, not inside `jit`.

  Returns:
    {tag: number} with the tags `norm/NAME/BLOCK`, `ratio/NAME/BLOCK` and
    `mean/NAME/BLOCK` of recorders, and `reading/NAME/BLOCK`,
    `below/NAME/BLOCK`, `above/NAME/BLOCK` of watchers. Arrays of blocks (layers
    of a stack, units) have one tag for each, `BLOCK.0`, `BLOCK.1`, ...; other
    signs than letters, digits and `_ - . /` and spaces become `_`, so that
    every tracker takes them.

  Raises:
    ValueError: Two recorders, or two watchers, of one name hold the same block;
      two blocks have one tag.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.record_block_norms('raw', 'leaf')
    >>> g = {'Dense_0': {'bias': jnp.array([3., 4.])}}
    >>> gn.telemetry_scalars(tx.update(g, tx.init(g))[1])
    {'norm/raw/Dense_0/bias': 5.0}
  """
  found: dict[str, float] = {}

  def add(kind: str, name: str, block: str, value: Any) -> None:
    tag = re.sub(r'[^\w\-. /]', '_', f'{kind}/{name}/{block}', flags=re.ASCII)
    if tag in found:
      raise ValueError(
          f'telemetry_scalars: two readings are called {tag!r}. Give recorders,'
          ' watchers and blocks names that differ in letters and digits.')
    found[tag] = float(value)

  # Only what was recorded leaves the device, in one transfer.
  recorded = jax.device_get({
      'norm': block_norms(opt_state), 'ratio': block_ratios(opt_state),
      'mean': block_means(opt_state)})
  for kind, by_name in recorded.items():
    for name, readings in by_name.items():
      for label, value in readings.items():
        for place in np.ndindex(value.shape):
          add(kind, name, '.'.join([label, *map(str, place)]), value[place])
  for name, rows in watch_report(opt_state).items():
    for block, row in rows.items():
      for kind in ('reading', 'below', 'above'):
        add(kind, name, re.sub(r'\[(\d+)\]', r'.\1', block), row[kind])
  return found


def send_telemetry(
    opt_state: Any, step: int, *hooks: Hook, every: int = 1
) -> None:
  """Hands what recorders and watchers hold to trackers.

  Call it in the loop, outside `jit`. In other steps than every n-th it touches
  nothing, so the loop does not wait for the device.

  Args:
    opt_state: As in `gn.block_norms`.
    step: The step's number.
    *hooks: Functions (step, {tag: number}), called in turn. The numbers are
      those of `telemetry_scalars`, NaN and infinity among them.
    every: Sends in steps 0, n, 2n, ...

  Raises:
    ValueError: As `telemetry_scalars`; `every` is below 1.

  Examples:
    >>> import gradnorm_optax as gn, jax.numpy as jnp
    >>> tx = gn.record_block_norms('raw', 'leaf')
    >>> g = {'Dense_0': {'bias': jnp.array([3., 4.])}}
    >>> state = tx.init(g)
    >>> for step in range(3):
    ...   _, state = tx.update(g, state)
    ...   gn.send_telemetry(state, step, print, every=2)
    0 {'norm/raw/Dense_0/bias': 5.0}
    2 {'norm/raw/Dense_0/bias': 5.0}
  """
  _recorded.check_every(every, 'send_telemetry')
  if step % every:
    return
  values = telemetry_scalars(opt_state)
  for hook in hooks:
    hook(step, dict(values))
