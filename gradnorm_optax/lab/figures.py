"""The pictures of a comparison."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, layout_engine, lines, rc_context

from gradnorm_optax.lab import heatmap
from gradnorm_optax.lab.canvas import Canvas
from gradnorm_optax.lab.findings import Look, Profiles, Row, Summary

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
           '#8C8C8C', '#8C564B')
MARKS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')


def draw(found: Summary, looks: Sequence[Look] = (),
         profiles: Profiles | None = None,
         ink: str = 'black') -> dict[str, Canvas]:
  """Draws what a comparison found; a model's own pictures end in its name."""
  with inked(ink):
    pictures = {'curves': _panels(found, _curve, 'step'),
                'sensitivity': _panels(found, _sensitivity, 'learning rate')}
    for model in dict.fromkeys(look.model for look in looks):
      pictures[f'norms-{model}'] = heatmap.draw(
          [look for look in looks if look.model == model])
    for model, moments in (profiles or {}).items():
      pictures[f'through_time-{model}'] = through_time(moments)
  return pictures


def inked(ink: str) -> Any:
  """A context in which text and axes are drawn in one colour."""
  return rc_context(dict.fromkeys((
      'text.color', 'axes.labelcolor', 'axes.edgecolor', 'axes.titlecolor',
      'xtick.color', 'ytick.color'), ink))


def through_time(
    profiles: Mapping[str, Mapping[int, Sequence[float | None]]]) -> Canvas:
  """Draws the gradient's norm at every step of a sequence.

  Args:
    profiles: {method: {training step: log10 norms}}, the norms from a
      sequence's first step to its last; None where one is zero or not finite.

  Returns:
    One panel for each method, one line for each moment of training; a line
    that falls to the left is a gradient that vanishes on its way back.
  """
  columns = min(len(profiles), 4)
  rows = -(-len(profiles) // columns)
  picture = Canvas(
      figsize=(1.6 + 2.3 * columns, 0.4 + 2.2 * rows), layout='constrained')
  axes = picture.subplots(
      rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
  moments = sorted({step for moment in profiles.values() for step in moment})
  # Without the ends, which a dark or a white page would swallow.
  colour = colormaps['viridis'](np.linspace(0.3, 0.85, len(moments)))
  for axis, (method, kept) in zip(axes, profiles.items(), strict=False):
    for step, norms in kept.items():
      shown = np.array(norms, np.float64)  # None becomes NaN: a gap
      axis.plot(np.arange(1, len(shown) + 1), shown, linewidth=1.3,
                color=colour[moments.index(step)])
    axis.set_title(textwrap.fill(method, 26), fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[['top', 'right']].set_visible(False)
  for axis in axes[len(profiles):]:
    axis.set_visible(False)
  picture.supxlabel('step of the sequence', fontsize=9)
  picture.supylabel('log10 of the gradient\'s norm', fontsize=9)
  picture.legend(
      [lines.Line2D([], [], color=c) for c in colour],
      [f'after step {step}' for step in moments], loc='outside right center',
      frameon=False, fontsize=8)
  return picture


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


def training(rows: list[dict[str, Any]]) -> Canvas:
  """Loss, score and gradient norm of one run."""
  picture = Canvas(figsize=(11, 3), layout='constrained')
  axes = picture.subplots(1, 3)
  for axis, name in zip(
      axes, ('loss', 'validation_score', 'gradient_norm'), strict=True):
    axis.plot([row['step'] for row in rows],
              [np.nan if row[name] is None else row[name] for row in rows],
              color=COLOURS[0])
    axis.set(xlabel='step', title=name.replace('_', ' '))
    axis.spines[['top', 'right']].set_visible(False)
  return picture
