"""Looks at methods as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import table, text

from gradnorm_optax.lab.reporting.terminal import Page
from gradnorm_optax.lab.results.look import QUANTILES, Look

_MEDIAN = QUANTILES.index(0.5)
_NOTE = (
    'Medians over the steps, of the norms of the blocks. gradient: of the '
    'batch, raw; at moments: what reaches the optimizer\'s moments; update: '
    'what a step adds to the parameters; entry: the median size of a '
    'gradient\'s entries that are not zero, then of those at the moments.')


def render(explained: Mapping[str, str], looks: Sequence[Look],
           told: str = '',
           orders: Mapping[str, Sequence[object]] = {}) -> Page:
  """What was looked at, the blocks of every model, a table for each look.

  Args:
    explained: {model: its blocks}.
    looks: What was seen.
    told: Which steps these are.
    orders: {model and method: what undoes itself in the chain}.
  """
  parts: list[Any] = [text.Text(told)] if told else []
  for model, told in explained.items():
    parts += [text.Text(f'\n{model}', style='bold'), text.Text(told)]
  for look in looks:
    parts += [text.Text(f'\n{look.model}, {look.method}: {_span(look.steps)}',
                        style='italic'), _table(look)]
  for name, findings in orders.items():
    parts += [text.Text(f'\n{name}: this chain undoes itself',
                        style='bold yellow'),
              *(text.Text(str(finding)) for finding in findings)]
  return Page(*parts, text.Text(f'\n{_NOTE}', style='dim'))


def _span(steps: list[int]) -> str:
  """The steps in words."""
  if len(steps) == 1:
    return f'step {steps[0]}'
  all_of_them = steps[-1] - steps[0] + 1 == len(steps)
  return (f'steps {steps[0]} to {steps[-1]}' if all_of_them else
          f'{len(steps)} of the steps {steps[0]} to {steps[-1]}')


def _table(look: Look) -> table.Table:
  """The figures of one method on one model."""
  columns = [('gradient', look.gradient), ('at moments', look.after),
             *look.parts.items(), ('update', look.update),
             ('update / params', look.ratio),
             ('entry', look.before[..., _MEDIAN]),
             ('at moments', look.reached[..., _MEDIAN])]
  shown = table.Table(box=None, pad_edge=False)
  shown.add_column('block', no_wrap=True)
  for name, _ in columns:
    shown.add_column(name, justify='right')
  shown.add_column('')
  for i, name in enumerate(look.blocks):
    shown.add_row(text.Text(name), *(
        f'{np.median(values[:, i]):.3g}' for _, values in columns),
        text.Text(look.flags.get(name, '')))
  return shown
