"""Which blocks look unwell, and what may help."""

import numpy as np

# A block this far from the others, in powers of ten, trains at another speed.
APART = 3.0


def flags(names: list[str], gradient: np.ndarray, after: np.ndarray,
          ratio: np.ndarray) -> dict[str, str]:
  """Judges every block by what the optimizer is given and by its step.

  Args:
    names: The blocks' names.
    gradient: Norms of the raw gradients; shape (batches, blocks).
    after: What the optimizer is given of them, the same shape.
    ratio: Norm of the step over that of the parameters, the same shape.

  Returns:
    {block: one line}, for those that need one.

  >>> norms, ratio = np.array([[1, 1, 1, 1e-5]]), np.full((1, 4), 0.01)
  >>> flags(list("abcd"), norms, norms, ratio)
  {'d': 'vanishing: 1e-05 of the usual norm; try normalize = "bng"'}
  """
  found = {}
  usual = np.array([np.median(column[np.isfinite(column)])
                    if np.isfinite(column).any() else 0.0
                    for column in after.T])
  # The upper quartile: deep nets have many small blocks, few large ones.
  usually = np.quantile(usual, 0.75)
  for i, name in enumerate(names):
    norms = gradient[:, i]
    if not np.isfinite(norms).all():
      batch = int(np.flatnonzero(~np.isfinite(norms))[0]) + 1
      found[name] = (f'not finite from batch {batch} on; lower the learning '
                     'rate or set clip')
    elif not norms.any():
      found[name] = 'zero: no gradient reaches this block'
    elif usual[i] < usually * 10 ** -APART:
      found[name] = (f'vanishing: {usual[i] / usually:.1g} of the usual norm; '
                     'try normalize = "bng"')
    elif usually and usual[i] > usually * 10 ** APART:
      found[name] = (f'exploding: {usual[i] / usually:.1g} times the usual '
                     'norm; try clip or normalize')
    elif np.nanmax(ratio[:, i], initial=0.0) > 1:
      found[name] = ('one step moved it by more than its own size; lower the '
                     'learning rate')
  return found
