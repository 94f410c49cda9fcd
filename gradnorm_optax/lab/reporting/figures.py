"""The pictures of a comparison."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import layout_engine, rc_context

from gradnorm_optax.lab.reporting import block_figures
from gradnorm_optax.lab.reporting.canvas import (
  COLOURS,
  MARKS,
  Canvas,
  fonts,
)
from gradnorm_optax.lab.reporting.run_figures import through_time
from gradnorm_optax.lab.results.findings import Profiles, Row, Summary
from gradnorm_optax.lab.results.look import Look


def draw(found: Summary, looks: Sequence[Look] = (),
         profiles: Profiles | None = None,
         ink: str = 'black') -> dict[str, Canvas]:
  """Draws what a comparison found; a model's own pictures end in its name."""
  with inked(ink):
    pictures = {'curves': _panels(found, _curve, 'step'),
                'sensitivity': _panels(found, _sensitivity, 'learning rate')}
    for model in dict.fromkeys(look.model for look in looks):
      own = [look for look in looks if look.model == model]
      pictures[f'norms-{model}'] = block_figures.norms(own)
      pictures[f'entries-{model}'] = block_figures.entries(own)
    for model, moments in (profiles or {}).items():
      pictures[f'through_time-{model}'] = through_time(moments)
  return pictures


def inked(ink: str) -> Any:
  """A context in which text and axes are drawn in one colour."""
  settings: Any = dict.fromkeys((
      'text.color', 'axes.labelcolor', 'axes.edgecolor', 'axes.titlecolor',
      'xtick.color', 'ytick.color'), ink)
  return rc_context(settings | {'font.family': fonts()})


def _panels(found: Summary, plot: Any, label: str) -> Canvas:
  """One panel for each model, one style for each method."""
  models = list(dict.fromkeys(row.model for row in found.rows))
  methods = list(dict.fromkeys(row.method for row in found.rows))
  columns = min(len(models), 3)
  rows = -(-len(models) // columns)
  picture = Canvas(
      figsize=(1.8 + 3.0 * columns + (columns == 1), 3.4 * rows),
      # The last number below one panel must not touch the first of the next.
      layout=layout_engine.ConstrainedLayoutEngine(w_pad=0.12))
  axes = picture.subplots(rows, columns, sharey=True, squeeze=False).ravel()
  for axis in axes[len(models):]:
    axis.set_visible(False)
  for axis, model in zip(axes, models, strict=False):
    for row in found.rows:
      if row.model == model:
        index = methods.index(row.method)
        plot(axis, found, row, {
            'color': COLOURS[index % len(COLOURS)],
            'marker': MARKS[index % len(MARKS)], 'label': row.method})
    axis.axhline(found.measure.scale * found.chance, color='0.6', linewidth=1,
                 linestyle=':')
    axis.set(title=model, xlabel=label)
    if found.measure.unit:
      axis.set_ylim(0, 102)  # what is below zero is no better than guessing
    if plot is _sensitivity:
      rates = sorted({point.rate for row in found.rows if row.model == model
                      for point in row.sensitivity})
      # No more names than fit side by side.
      every = -(-len(rates) // 6)
      axis.set_xticks(rates, [
          '' if i % every else f'{rate:g}' for i, rate in enumerate(rates)])
      axis.minorticks_off()
    axis.spines[['top', 'right']].set_visible(False)
  for axis in axes[::columns]:
    axis.set_ylabel(found.measure.label('validation'))
  # A method may run on some models alone.
  shown = {label: handle for axis in axes for handle, label in zip(
      *axis.get_legend_handles_labels(), strict=True)}
  handles = [shown[name] for name in methods]
  picture.legend(handles, methods, loc='outside right center', frameon=False)
  return picture


def _curve(axis: Any, found: Summary, row: Row, style: dict[str, Any]) -> None:
  """Mean score over the seeds, with the range as a band."""
  count = found.steps // found.every
  runs = np.full((len(row.runs), count), np.nan)
  for i, run in enumerate(row.runs):
    runs[i, :len(run.curve)] = run.curve
  if not len(runs):
    return
  # After divergence: the worst.
  runs = found.measure.scale * np.where(np.isnan(runs), found.worst, runs)
  steps = found.every * np.arange(1, count + 1)
  axis.plot(steps, runs.mean(0), markevery=0.2, markersize=4, linewidth=1.5,
            **style)
  axis.fill_between(steps, runs.min(0), runs.max(0), alpha=0.15, linewidth=0,
                    color=style['color'])


def _sensitivity(axis: Any, found: Summary, row: Row,
                 style: dict[str, Any]) -> None:
  """Mean score over the tuning seeds at every rate."""
  axis.plot([point.rate for point in row.sensitivity],
            [found.measure.scale * point.score for point in row.sensitivity],
            markersize=4, linewidth=1.5, **style)
  axis.set_xscale('log')
