"""Which blocks look unwell, and what may help."""

from typing import Any

import numpy as np

# A block this far from the others, in powers of ten, trains at another speed.
APART = 3.0
# What to try, for methods that give no scales of their own, and for those.
MENDS = {
    'vanishing': ('try normalize = "bng"', ''),
    'exploding': ('try clip or normalize', 'lower the learning rate'),
    'not finite': ('lower the learning rate or set clip',) * 2,
    'moved too far': ('lower the learning rate',) * 2,
}


def flags(names: list[str], steps: list[int], loss: np.ndarray,
          gradient: np.ndarray, after: np.ndarray, ratio: np.ndarray,
          size: np.ndarray, scaled: bool = False) -> dict[str, str]:
  """Judges every block by what reaches the moments and by its step.

  Args:
    names: The blocks' names.
    steps: The numbers of the steps, from 1; (n,) of them.
    loss: The loss of their batches; shape (n,).
    gradient: Norms of the raw gradients; shape (n, blocks).
    after: Of what reaches the moments, the same shape.
    ratio: Norm of the step over that of the parameters, the same shape.
    size: Norms of the parameters before the step, the same shape.
    scaled: Whether the method gives blocks scales of their own on purpose
      (Path-SGD, normalized blocks): then they are told apart by `ratio`, and no
      normalization is advised.

  Returns:
    {block: one line}, for those that need one.

  >>> norms, ratio = np.array([[1, 1, 1, 1e-5]]), np.full((1, 4), 0.01)
  >>> flags(list("abcd"), [1], np.ones(1), norms, norms, ratio, norms)
  {'d': 'vanishing: 1e-05 of the usual norm; try normalize = "bng"'}
  """
  found = {}
  usual = np.array([np.median(column[np.isfinite(column)])
                    if np.isfinite(column).any() else 0.0
                    for column in (ratio if scaled else after).T])
  what = 'step' if scaled else 'norm'
  # The upper quartile: deep nets have many small blocks, few large ones.
  usually = np.quantile(usual, 0.75)
  for i, name in enumerate(names):
    norms = gradient[:, i]
    if not np.isfinite(norms).all():
      at = int(np.flatnonzero(~np.isfinite(norms))[0])
      found[name] = (
          f'not finite from step {steps[at]} on; {mend("not finite", scaled)}'
          if steps[at] > 1 else _at_the_start(
              names, loss[0], gradient[0], size[0], i))
    elif not norms.any():
      found[name] = 'zero: no gradient reaches this block'
    elif usual[i] < usually * 10 ** -APART:
      found[name] = advised(
          f'vanishing: {usual[i] / usually:.1g} of the usual {what}',
          'vanishing', scaled)
    elif usually and usual[i] > usually * 10 ** APART:
      found[name] = advised(
          f'exploding: {usual[i] / usually:.1g} times the usual {what}',
          'exploding', scaled)
    elif np.nanmax(ratio[:, i], initial=0.0) > 1:
      found[name] = advised('one step moved it by more than its own size',
                            'moved too far', scaled)
  return found


def scales(normalize: Any, optimizer: str) -> bool:
  """Whether a method gives blocks scales of their own."""
  return bool(normalize) or optimizer in ('path_sgd', 'sing')


def mend(what: str, scaled: bool) -> str:
  """What to try; '' where nothing is known to help.

  >>> mend('exploding', scaled=True), mend('hardly moves', scaled=True)
  ('lower the learning rate', '')
  """
  return MENDS[what][scaled] if what in MENDS else ''


def advised(told: str, what: str, scaled: bool) -> str:
  """What was seen, and what to try if anything helps."""
  return '; '.join(filter(None, (told, mend(what, scaled))))


def _at_the_start(names: list[str], loss: float, gradient: np.ndarray,
                  size: np.ndarray, at: int) -> str:
  """What is wrong with a block in step 1, which no learning rate mends."""
  head = 'not finite in step 1, before any update: '
  if not np.isfinite(size).all():
    first = names[int(np.flatnonzero(~np.isfinite(size))[0])]
    which = 'its own' if first == names[at] else f'{first}\'s'
    return f'{head}{which} parameters are not; look at the initialization'
  if not np.isfinite(loss):
    return (f'{head}the loss is {loss:.3g} though all parameters are finite; '
            'look at the data, at the loss (a logarithm or a division?) and at '
            'the scale of inputs and start')
  bad = int((~np.isfinite(gradient)).sum())
  others = f', as in {bad - 1} more' if bad > 1 else ''
  return (f'{head}the loss is {loss:.3g}, but its slope has no number '
          f'here{others}; look for a root or a norm at 0 behind this block')
