"""Small panels of scores: final ones, by step, by learning rate."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import ticker

from gradnorm_optax.lab.reporting import alt_texts, score_axes
from gradnorm_optax.lab.reporting.canvas import COLOURS
from gradnorm_optax.lab.reporting.score_axes import Reach
from gradnorm_optax.lab.reporting.sheet import (
  LETTERS,
  NARROW,
  WIDE,
  Frame,
  Key,
  Panel,
  Sheet,
  short,
)
from gradnorm_optax.lab.results.findings import Row, Summary

OWN, TRAINING, OTHERS = COLOURS[0], COLOURS[1], '#8C8C8C'
_LEFT, _RIGHT, _BELOW, _ABOVE = 0.42, 0.08, 0.2, 0.06
_SCORE, _LOSS, _BETWEEN = 0.95, 0.75, 0.1
_LINE = 0.2  # inches for a method's line


def scores(found: Summary) -> Sheet:
  """Final test scores: one panel for each model, one line for each method."""
  def panel(model: str, rows: list[Row]) -> Panel:
    return Panel(
        model, alt_texts.scores(rows, found.measure), WIDE,
        _ABOVE + _LINE * len(rows) + _BELOW,
        lambda frame: _scores(frame, found, rows))
  notes = [f'{note} of {model}' for model, rows in _models(found).items() if (
      note := score_axes.guessing(found, _score_reach(found, rows)))]
  return Sheet(
      'Final scores',
      f'{_capital(found.measure.label("test"))} of every method. Dots: the '
      'fresh runs; bar and line: their mean and its 95% interval over seeds '
      'and examples; dotted: guessing. Bold: what the report says to use.'
      + ''.join(f' {_capital(note)}.' for note in notes),
      tuple(panel(model, rows) for model, rows in _models(found).items()))


def curves(found: Summary) -> Sheet:
  """Scores and losses by step: one panel for each method on each model."""
  panels, notes = [], {}
  for model, rows in _models(found).items():
    shown = score_axes.of_curves(rows, found)
    notes[model] = score_axes.guessing(found, shown)
    losses = _loss_reach(rows)
    panels += [Panel(
        row.method, alt_texts.curves(row, found.measure), NARROW,
        _ABOVE + _SCORE + _BETWEEN + _LOSS + _BELOW,
        functools.partial(_curves, found=found, row=row, rows=rows,
                          shown=shown, losses=losses),
        model, row.method == found.choice(model)) for row in rows]
  return Sheet(
      'Learning curves',
      f'Each method at its chosen rate, by step. Above: '
      f'{found.measure.label("validation")}; the axis begins where the '
      'methods that train are after a quarter of the run. Below: the loss. '
      'Thin: each fresh run, a cross where it diverged; thick: their mean.',
      tuple(panels), (
          Key('validation', OWN), Key('training', TRAINING, '--'),
          Key('the other methods', OTHERS), Key('guessing', OTHERS, ':')),
      notes=notes)


def sensitivity(found: Summary) -> Sheet:
  """Scores by learning rate: one panel for each method on each model."""
  panels, notes = [], {}
  for model, rows in _models(found).items():
    shown = score_axes.reach(
        [found.measure.scale * point.score for row in rows
         for point in row.sensitivity], found.measure.unit)
    notes[model] = score_axes.guessing(found, shown)
    panels += [Panel(
        row.method, alt_texts.sensitivity(row, found.measure), NARROW,
        _ABOVE + _SCORE + _BELOW,
        functools.partial(_sensitivity, found=found, row=row, rows=rows,
                          shown=shown),
        model, row.method == found.choice(model)) for row in rows]
  return Sheet(
      'Sensitivity to the learning rate',
      f'Final {found.measure.label("validation")} at every rate tried, mean '
      'over the tuning seeds; a ring at the rate that was chosen, a cross '
      'where a run diverged. A wide plateau is easy to tune.',
      tuple(panels), (
          Key('the method', OWN), Key('the other methods', OTHERS),
          Key('guessing', OTHERS, ':')), notes=notes)


def _models(found: Summary) -> dict[str, list[Row]]:
  """The rows of every model."""
  return {model: [row for row in found.rows if row.model == model]
          for model in dict.fromkeys(row.model for row in found.rows)}


def _capital(words: str) -> str:
  return words[:1].upper() + words[1:]


def _guessing(axis: Any, found: Summary, across: bool = True) -> None:
  """A dotted line, seen where it lies on the axis."""
  draw = axis.axhline if across else axis.axvline
  draw(found.measure.scale * found.chance, color=OTHERS, linewidth=1.2,
       linestyle=':', zorder=1)


def _score_reach(found: Summary, rows: Sequence[Row]) -> Reach:
  """The axis of final scores."""
  rows = [row for row in rows if row.trains] or list(rows)
  values = [value for row in rows for value in (
      row.score.low, row.score.mean, row.score.high,
      *(run.test_score for run in row.runs))]
  return score_axes.reach(
      [found.measure.scale * value for value in values], found.measure.unit)


def _scores(frame: Frame, found: Summary, rows: Sequence[Row]) -> None:
  scale, measure = found.measure.scale, found.measure
  names = short([row.method for row in rows], 22)
  left = 0.1 + 0.085 * max(map(len, names))
  axis = frame.axes(left, _ABOVE, WIDE - left - 0.14, _LINE * len(rows))
  shown = _score_reach(found, rows)
  axis.set(xlim=shown, ylim=(len(rows) - 0.5, -0.5))
  _guessing(axis, found, across=False)
  for i, row in enumerate(rows):
    if not row.trains:
      axis.annotate('not finite' if row.fault else 'does not train', (0.02, i),
                    xycoords=('axes fraction', 'data'), va='center',
                    fontsize=LETTERS)
      continue
    axis.plot([scale * run.test_score for run in row.runs],
              [i + 0.28] * len(row.runs), 'o', color=OTHERS, markersize=3.2,
              markeredgewidth=0)
    if math.isfinite(row.score.low):
      axis.plot([scale * row.score.low, scale * row.score.high],
                [i - 0.08, i - 0.08],
                color=OWN, linewidth=1.6)
    axis.plot([scale * row.score.mean], [i - 0.08], '|', color=OWN,
              markersize=10, markeredgewidth=2.4)
  axis.set_yticks(range(len(rows)), names)
  choice = found.choice(rows[0].model)
  for row, label in zip(rows, axis.get_yticklabels(), strict=True):
    label.set_weight('bold' if row.method == choice else 'normal')
  axis.tick_params(axis='y', length=0)
  axis.grid(axis='y', color='0.5', alpha=0.2, linewidth=0.6)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
  axis.xaxis.set_major_formatter(ticker.FuncFormatter(
      lambda value, _: f'{value:g}{measure.unit}'))


def _curves(frame: Frame, found: Summary, row: Row, rows: Sequence[Row],
            shown: Reach, losses: tuple[float, float] | None) -> None:
  width = NARROW - _LEFT - _RIGHT
  above = frame.axes(_LEFT, _ABOVE, width, _SCORE)
  below = frame.axes(_LEFT, _ABOVE + _SCORE + _BETWEEN, width, _LOSS)
  steps = found.every * np.arange(1, found.steps // found.every + 1)
  for other in rows:
    if other is not row and other.runs:
      for axis, values in ((above, score_axes.curves(other, found)),
                           (below, _losses(other, 'losses', len(steps)))):
        axis.plot(steps, values.mean(0), color=OTHERS, linewidth=0.8,
                  alpha=0.5)
  _guessing(above, found)
  if row.runs:
    own = score_axes.curves(row, found)
    _runs(above, steps, own, OWN)
    for i, run in enumerate(row.runs):
      if run.diverged:
        last = max(len(run.curve) - 1, 0)
        above.plot(steps[last], max(own[i, last], shown.low), 'x', color=OWN,
                   markersize=5, clip_on=False)
    if own.mean(0)[-1] < shown.low:
      above.annotate(
          f'ends at {found.measure.figure(row.validation)},\nbelow the axis',
          (0.97, 0.06), xycoords='axes fraction', ha='right', fontsize=LETTERS)
    _runs(below, steps, _losses(row, 'train_losses', len(steps)), TRAINING,
          '--', thin=False)
    _runs(below, steps, _losses(row, 'losses', len(steps)), OWN)
  above.set(xlim=(0, found.steps), ylim=shown)
  above.yaxis.set_major_locator(ticker.MaxNLocator(4))
  above.set_xticks([0, found.steps], ['', ''])
  below.set_xlim(0, found.steps)
  if losses:
    _loss_axis(below, losses)
  below.set_xticks([0, found.steps])
  for label, side in zip(below.get_xticklabels(), ('left', 'right'),
                         strict=True):
    label.set_ha(side)


def _runs(axis: Any, steps: np.ndarray, values: np.ndarray, colour: str,
          style: str = '-', thin: bool = True) -> None:
  """Each run thin, their mean thick."""
  for one in values if thin and len(values) > 1 else ():
    axis.plot(steps, one, color=colour, linewidth=0.6, alpha=0.55)
  axis.plot(steps, values.mean(0), color=colour, linewidth=1.8,
            linestyle=style)


def _losses(row: Row, name: str, count: int) -> np.ndarray:
  """Losses by fresh run and evaluation; NaN where there is none."""
  shown = np.full((len(row.runs), count), np.nan)
  for i, run in enumerate(row.runs):
    values = getattr(run, name)[:count]
    shown[i, :len(values)] = values
  return np.where(np.isfinite(shown), shown, np.nan)


def _loss_reach(rows: Sequence[Row]) -> tuple[float, float] | None:
  """From the least mean loss to the largest; None where none is known."""
  count = max((len(run.losses) for row in rows for run in row.runs), default=0)
  known = np.concatenate([
      _losses(row, name, count).mean(0) for row in rows if row.runs
      for name in ('losses', 'train_losses')] or [np.array([])])
  known = known[np.isfinite(known)]
  return (float(known.min()), float(known.max())) if len(known) else None


def _loss_axis(axis: Any, losses: tuple[float, float]) -> None:
  """Logarithmic where losses are positive and far apart."""
  low, high = losses
  if low > 0 and high > 3 * low:
    axis.set_yscale('log')
    axis.set_ylim(low / 1.15, high * 1.15)
    axis.yaxis.set_major_locator(ticker.LogLocator(
        subs=(1.0,) if high > 20 * low else (1.0, 2.0, 5.0), numticks=5))
    axis.yaxis.set_minor_locator(ticker.NullLocator())
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(
        lambda value, _: f'{value:g}'))
    return
  margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
  axis.set_ylim(low - margin, high + margin)
  axis.yaxis.set_major_locator(ticker.MaxNLocator(3))


def _sensitivity(frame: Frame, found: Summary, row: Row, rows: Sequence[Row],
                 shown: Reach) -> None:
  axis = frame.axes(_LEFT, _ABOVE, NARROW - _LEFT - _RIGHT, _SCORE)
  for other in sorted(rows, key=lambda other: other is row):
    rates, values = _points(other, found)
    # Points of a search differ in more than the rate: no line joins them.
    axis.plot(rates, values, color=OWN if other is row else OTHERS,
              linewidth=(1.6 if other is row else 0.8) * (not found.points),
              alpha=1.0 if other is row else 0.5,
              marker='.' if other is row or found.points else '',
              markersize=5 if other is row else 3)
  _guessing(axis, found)
  rates, values = _points(row, found)
  for point, value in zip(row.sensitivity, values, strict=True):
    if point.diverged:
      axis.plot(point.rate, max(value, shown.low), 'x', color=TRAINING,
                markersize=5.5, clip_on=False)
    if (point.rate, point.settings) == (row.rate, row.settings):
      axis.plot(point.rate, value, 'o', markerfacecolor='none', color=OWN,
                markersize=7, clip_on=False)
  axis.set(xscale='log', ylim=shown)
  every = [point.rate for other in rows for point in other.sensitivity]
  _rate_axis(axis, min(every), row.rate, max(every))
  axis.yaxis.set_major_locator(ticker.MaxNLocator(4))


def _points(row: Row, found: Summary) -> tuple[list[float], list[float]]:
  return ([point.rate for point in row.sensitivity],
          [found.measure.scale * point.score for point in row.sensitivity])


def _rate_axis(axis: Any, low: float, chosen: float, high: float) -> None:
  """Names the chosen rate, and the ends where there is room beside it."""
  if low == high:
    axis.set_xlim(low / 2, high * 2)
    axis.set_xticks([low], [f'{low:g}'])
  else:
    edge = (high / low) ** 0.06
    axis.set_xlim(low / edge, high * edge)
    whole = math.log(high / low)
    room = 0.45 if max(len(f'{rate:g}') for rate in (
        low, chosen, high)) < 6 else 0.65
    ticks = [rate for rate in (low, high)
             if abs(math.log(rate / chosen)) > room * whole] + [chosen]
    axis.set_xticks(ticks, [f'{rate:g}' for rate in ticks])
    for rate, label in zip(ticks, axis.get_xticklabels(), strict=True):
      label.set_ha('left' if rate == low else
                   'right' if rate == high else 'center')
  axis.minorticks_off()
