"""The pictures of a comparison."""

from typing import Any

import numpy as np
from matplotlib import figure as mpl, rc_context

from gradnorm_optax.lab.summary import Row, Summary

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
           '#8C8C8C', '#8C564B')
MARKS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')


def draw(found: Summary, ink: str = 'black') -> dict[str, Any]:
  """Draws learning curves and the sensitivity to the learning rate."""
  with rc_context(dict.fromkeys((
      'text.color', 'axes.labelcolor', 'axes.edgecolor', 'axes.titlecolor',
      'xtick.color', 'ytick.color'), ink)):
    return {'curves': _panels(found, _curve, 'step'),
            'sensitivity': _panels(found, _sensitivity, 'learning rate')}


def _panels(found: Summary, plot: Any, label: str) -> mpl.Figure:
  """One panel for each model, one style for each method."""
  models = list(dict.fromkeys(row.model for row in found.rows))
  methods = list(dict.fromkeys(row.method for row in found.rows))
  picture = mpl.Figure(
      figsize=(4.2 * len(models) + 1.8, 3.8), layout='constrained')
  axes = picture.subplots(1, len(models), sharey=True, squeeze=False)[0]
  for axis, model in zip(axes, models, strict=True):
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
      axis.set_ylim(0, 100)  # what is below zero is no better than guessing
    if plot is _sensitivity:
      rates = sorted({point.rate for row in found.rows if row.model == model
                      for point in row.sensitivity})
      axis.set_xticks(rates, [f'{rate:g}' for rate in rates])
      axis.minorticks_off()
    axis.spines[['top', 'right']].set_visible(False)
  axes[0].set_ylabel(found.measure.label('validation'))
  handles, labels = axes[0].get_legend_handles_labels()
  picture.legend(handles, labels, loc='outside right center', frameon=False)
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


def training(rows: list[dict[str, Any]]) -> mpl.Figure:
  """Loss, score and gradient norm of one run."""
  picture = mpl.Figure(figsize=(11, 3), layout='constrained')
  axes = picture.subplots(1, 3)
  for axis, name in zip(
      axes, ('loss', 'validation_score', 'gradient_norm'), strict=True):
    axis.plot([row['step'] for row in rows],
              [np.nan if row[name] is None else row[name] for row in rows],
              color=COLOURS[0])
    axis.set(xlabel='step', title=name.replace('_', ' '))
    axis.spines[['top', 'right']].set_visible(False)
  return picture
