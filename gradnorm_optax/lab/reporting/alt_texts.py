"""What a picture shows, for those who cannot see it."""

from collections.abc import Sequence

import numpy as np

from gradnorm_optax.lab.results.findings import Profiles, Summary
from gradnorm_optax.lab.results.look import QUANTILES, Look

_MEDIAN = QUANTILES.index(0.5)


def describe(name: str, found: Summary, looks: Sequence[Look],
         profiles: Profiles) -> str:
  """The figures of a picture in words.

  Args:
    name: The picture's, such as "curves" or "norms-MODEL".
    found: The rows.
    looks: What the methods do to the blocks.
    profiles: The gradients through time.
  """
  kind, _, model = name.partition('-')
  if kind == 'norms':
    own = [look for look in looks if look.model == model]
    parts = [f'{look.method}: gradient {spread(look.gradient)}, at the moments '
             f'{spread(look.after)}, update over parameters '
             f'{spread(look.ratio)}' for look in own]
    return 'Largest over smallest median of a block: ' + '; '.join(parts)
  if kind == 'entries':
    return 'Largest over smallest median entry of a block: ' + '; '.join(
        f'{look.method}: gradient {spread(look.before[..., _MEDIAN])}, at the '
        f'moments {spread(look.reached[..., _MEDIAN])}'
        for look in looks if look.model == model)
  if kind == 'through_time':
    return '; '.join(
        f'{method}, after step {max(moments)}: {ends(moments[max(moments)])}'
        for method, moments in profiles[model].items())
  measure = found.measure
  if kind == 'sensitivity':
    return '; '.join(
        f'{row.model}, {row.method}: ' + ', '.join(
            f'{measure.figure(point.score)} at {point.rate:g}'
            for point in row.sensitivity) for row in found.rows)
  return '; '.join(
      f'{row.model}, {row.method}: '
      + (f'{measure.name} {measure.figure(row.score.mean)}'
         if row.trains else 'does not train') for row in found.rows)


def spread(norms: np.ndarray) -> str:
  """The largest median norm of a block over the smallest.

  >>> spread(np.array([[1.0, 100.0, 0.0]]))
  '100'
  """
  usual = np.median(norms, axis=0)
  usual = usual[np.isfinite(usual) & (usual > 0)]
  return f'{usual.max() / usual.min():.3g}' if len(usual) else 'none is finite'


def ends(norms: Sequence[float | None]) -> str:
  """A profile's first and last figures.

  >>> ends([None, -3.0, 0.5])
  '10^-3 at step 2 of the sequence, 10^0.5 at step 3'
  """
  shown = [(i, v) for i, v in enumerate(norms, 1) if v is not None]
  if not shown:
    return 'zero or not finite'
  (first, low), (last, high) = shown[0], shown[-1]
  return (f'10^{low:g} at step {first} of the sequence, 10^{high:g} at step '
          f'{last}')
