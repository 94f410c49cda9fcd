"""The figures of docs/studies.md."""

from typing import Any

import numpy as np
from matplotlib import figure

from benchmarks.evidence.studies import tables
from gradnorm_optax.lab.reporting.canvas import COLOURS, MARKS

Kept = dict[str, Any]


def _axes(count: int, height: float = 2.9) -> tuple[figure.Figure, Any]:
  picture = figure.Figure(figsize=(4.0 * count + 0.8, height),
                          layout='constrained')
  return picture, np.atleast_1d(picture.subplots(1, count))


def narrow_minima(kept: Kept) -> figure.Figure:
  """Shares of starts outside against lr sqrt(D) / diameter."""
  picture, (once, later) = _axes(2, 3.2)
  blocks = kept['settings']['blocks']
  for i, count in enumerate(blocks):
    for method, style in (('sing_sgd', '-'), ('bng', ':')):
      once.plot(*_shares(kept, f'{method}/{count}', None), style,
                color=COLOURS[i], marker=MARKS[i] if style == '-' else None,
                markersize=4, label=f'D = {count}' if style == '-' else None)
  once.axvline(1, color='0.4', linewidth=1)
  once.text(1.05, 0.03, 'lr √D = diameter', fontsize=8, color='0.3')
  once.set_title('after one step: SING without momentum (lines),\nBNG (dotted)',
                 fontsize=9)
  for i, method in enumerate(kept['settings']['arms']):
    later.plot(*_shares(kept, f'{method}/{blocks[-2]}', 'later'),
               color=COLOURS[i], marker=MARKS[i], markersize=4, label=method)
  later.axvline(1, color='0.4', linewidth=1)
  steps = kept['settings']['steps']
  later.set_title(f'after {steps} steps with a falling rate,\nD = {blocks[-2]}',
                  fontsize=9)
  for axis in (once, later):
    axis.set_xscale('log')
    axis.set_xlabel('lr √D / diameter of the basin')
    axis.set_ylabel('share of starts outside')
    axis.legend(fontsize=7, loc='upper left')
  return picture


def _shares(kept: Kept, arm: str, name: str | None
            ) -> tuple[list[float], list[float]]:
  found: dict[float, list[float]] = {}
  for trial in tables.finals(kept, arm):
    found.setdefault(trial['extra']['reach'], []).append(
        trial['value'] if name is None else trial['extra'][name])
  return list(found), [float(np.mean(v)) for v in found.values()]


def rates(kept: Kept) -> figure.Figure:
  """The tuning seeds' means against the rate, an axis for each net."""
  names = list(dict.fromkeys(
      t['arm'] for t in kept['trials'] if t['phase'] == 'tune'))
  nets = list(dict.fromkeys(
      arm.split('/')[0] if '/' in arm else '' for arm in names))
  picture, axes = _axes(len(nets))
  for axis, net in zip(axes, nets, strict=True):
    here = [arm for arm in names if not net or arm.startswith(f'{net}/')]
    for i, arm in enumerate(here):
      found: dict[float, list[Any]] = {}
      for trial in kept['trials']:
        if trial['arm'] == arm and trial['phase'] == 'tune':
          found.setdefault(trial['rate'], []).append(trial['value'])
      order = sorted(found)
      means = [np.nan if None in found[rate] else np.mean(found[rate])
               for rate in order]
      axis.plot(order, means, color=COLOURS[i], marker=MARKS[i], markersize=4,
                label=arm.split('/')[-1])
    axis.set_xscale('log')
    if not kept['higher']:
      axis.set(yscale='log', ylim=(None, 10))  # what diverged is cut off
    axis.set_xlabel('learning rate')
    axis.set_title(net or kept['study'], fontsize=9)
  axes[-1].legend(fontsize=7, loc='upper left', bbox_to_anchor=(1.01, 1))
  axes[0].set_ylabel('mean of the tuning seeds')
  return picture


def seeds(kept: Kept) -> figure.Figure:
  """Every fresh seed of every arm."""
  arms = tables.arms(kept)
  picture, (axis,) = _axes(1, 0.5 + 0.45 * len(arms))
  for place, arm in enumerate(arms):
    found = tables.values(kept, arm)
    axis.plot(found, place + np.linspace(-0.25, 0.25, len(found)), 'o',
              color=COLOURS[place % len(COLOURS)], markersize=3, alpha=0.7)
    axis.plot([found.mean()] * 2, [place - 0.35, place + 0.35], color='0.1')
  axis.set_yticks(range(len(arms)), arms, fontsize=8)
  axis.invert_yaxis()
  axis.set_xlabel('each fresh seed, and the mean', fontsize=8)
  return picture
