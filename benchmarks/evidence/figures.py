"""The figures of docs/evidence.md: scores, courses, and the width of rates."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import figure as mpl, rcParams

from benchmarks.evidence.results import Study
from gradnorm_optax.lab.reporting.canvas import COLOURS, MARKS

Draw = Callable[[Any, Study, Sequence[str]], None]


class Figure(NamedTuple):
  """One figure: a panel for each study or set of rows.

  Attributes:
    method: In whose section it stands.
    file: Its name.
    alt: What it shows, for who cannot see it.
    caption: What stands below it.
    panels: (study, title, rows, how they are drawn).
  """

  method: str
  file: str
  alt: str
  caption: str
  panels: tuple[tuple[str, str, tuple[str, ...], str], ...]


def _rows(model: str, *methods: str) -> tuple[str, ...]:
  return tuple(f'{model}/{method}' for method in methods)


PATH = ('sgd', 'momentum', 'adagrad', 'adam', 'path_sgd', 'path_momentum',
        'path_adagrad', 'path_adam')
FIGURES = (
    Figure(
        'BNG', 'evidence_bng_depth.svg',
        'Test accuracy of sigmoid nets of 6, 12 and 18 layers',
        'Test accuracy of sigmoid nets on digits, each at its best rate: '
        'points are fresh seeds, bars the 95% interval. Chance is 10%.',
        tuple(('bng_depth', f'{depth} layers', _rows(
            f'mlp{depth}', 'adam', 'momentum', 'bng_adam', 'bng_momentum'),
               'scores') for depth in (6, 12, 18))),
    Figure(
        'BNG', 'evidence_bng_blocks.svg',
        'Test accuracy by what is normalized together',
        'What is normalized together, and the paper\'s ratio (NG): 12 sigmoid '
        'layers, before Adam.',
        (('bng_depth', '12 layers, Adam', _rows(
            'mlp12', 'clip_adam', 'global_adam', 'bng_adam', 'ng_adam',
            'leaf_adam', 'unit_adam'), 'scores'),)),
    Figure(
        'BNG', 'evidence_bng_cnn.svg',
        'Test accuracy of plain and residual convolutional nets',
        'Plain and residual convolutional nets on Fashion-MNIST.',
        tuple(('bng_cnn', name, _rows(
            name, 'momentum', 'adam', 'bng_momentum', 'ng_momentum',
            'bng_adam'), 'scores') for name in ('cnn10', 'resnet20'))),
    Figure(
        'SING', 'evidence_sing_rates.svg',
        'Validation accuracy against the learning rate',
        'Validation accuracy at every learning rate, mean of the tuning seeds; '
        'the dashed line is what counts as trained.',
        (('sing_rates', 'with AdamW', _rows(
            'cnn5', 'adamw', 'sing_adamw', 'sing_softplus',
            'uncentered_adamw'), 'rates'),
         ('sing_rates', 'with others', _rows(
             'cnn5', 'momentum', 'sing_momentum', 'lion', 'sing_lion'),
          'rates'))),
    Figure(
        'Weight normalization', 'evidence_wn_curves.svg',
        'Validation accuracy by step with batches of 32 and of 4',
        'Validation accuracy by step, mean of the fresh seeds.',
        tuple((name, title, tuple(f'{model}/adam' for model in (
            'plain', 'weight_data', 'mean_only', 'weight_mean_only', 'batch')),
               'courses') for name, title in (
                   ('wn_speed', 'batches of 32'),
                   ('wn_batch4', 'batches of 4')))),
    Figure(
        'Weight normalization', 'evidence_wn_rates.svg',
        'Validation accuracy against the learning rate',
        'Validation accuracy at every learning rate, mean of ten tuning seeds; '
        'the dashed line is what counts as trained.',
        (('wn_rates', 'momentum', _rows(
            'mlp', 'momentum', 'wn_momentum', 'bng_momentum'), 'rates'),
         ('wn_rates', 'Adam', _rows(
             'mlp', 'adam', 'wn_adam', 'bng_adam'), 'rates'))),
    Figure(
        'Path-SGD', 'evidence_path.svg',
        'Test accuracy from balanced and unbalanced starts',
        'Test accuracy of a ReLU net on digits from both starts, each at its '
        'best rate; two tuning seeds.',
        tuple(('path', model, _rows(model, *PATH), 'scores')
              for model in ('balanced', 'unbalanced'))),
    Figure(
        'Path-SGD', 'evidence_path_unbalanced.svg',
        'Test accuracy from unbalanced starts, with more seeds',
        'The unbalanced start again: eight tuning seeds, twenty fresh ones.',
        (('path_unbalanced', '', _rows('unbalanced', *PATH), 'scores'),)),
    Figure(
        'Together', 'evidence_together.svg',
        'Test accuracy of one method and of two together',
        'One method, and two together.',
        tuple(('together', model, _rows(
            model, 'adam', 'adamw', 'bng_adam', 'sing_adamw', 'wn_adam',
            'wn_bng_adam', 'wn_sing_adamw'), 'scores')
              for model in ('sigmoid6', 'relu6'))),
    Figure(
        'Frontier', 'evidence_lm.svg',
        'Validation loss of a small language model by step',
        'Validation loss of the language model by step, mean of the fresh '
        'seeds.',
        (('lm', '', _rows(
            'decoder', 'adamw', 'nadamw', 'muon', 'sing_adamw', 'bng_adamw',
            'row_normalized_momentum', 'fixed_lengths_adam', 'wn_muon'),
          'losses'),)),
)


def of(method: str, studies: Mapping[str, Study]) -> list[Figure]:
  """The figures of a method whose studies were run."""
  return [one for one in FIGURES if one.method == method and all(
      name in studies and all(row in studies[name].rows for row in rows)
      for name, _, rows, _ in one.panels)]


def draw(studies: Mapping[str, Study], folder: pathlib.Path,
         png: pathlib.Path | None = None) -> None:
  """Writes the figures of all methods whose studies were run."""
  rcParams['svg.fonttype'], rcParams['svg.hashsalt'] = 'none', 'gradnorm'
  rcParams['font.size'] = 9
  folder.mkdir(parents=True, exist_ok=True)
  for one in (found for method in dict.fromkeys(
      each.method for each in FIGURES) for found in of(method, studies)):
    picture = mpl.Figure(figsize=(1.2 + 3.4 * len(one.panels), 3.2),
                         layout='constrained')
    shared = {kind for *_, kind in one.panels} == {'scores'}
    axes = picture.subplots(1, len(one.panels), squeeze=False,
                            sharey='row' if shared else 'none')[0]
    for axis, (name, title, rows, kind) in zip(axes, one.panels, strict=True):
      PANELS[kind](axis, studies[name], rows)
      axis.set_title(title, fontsize=9)
      axis.spines[['top', 'right']].set_visible(False)
    picture.savefig(folder / one.file, metadata={'Date': None})
    if png is not None:
      png.mkdir(parents=True, exist_ok=True)
      picture.savefig((png / one.file).with_suffix('.png'), dpi=110)


def _named(row: str) -> str:
  """A row without what all of a panel share."""
  model, method = row.split('/')
  return model if method == 'adam' and model in (
      'plain', 'weight', 'weight_data', 'mean_only', 'weight_mean_only',
      'batch') else method


def _scores(axis: Any, study: Study, rows: Sequence[str]) -> None:
  """A column for each row: its seeds, and the interval of their mean."""
  scale = study.kept['scale']
  for place, name in enumerate(rows):
    row = study.rows[name]
    colour = '0.55' if row.plain else COLOURS[0]
    found = np.array([np.nan if value is None else value
                      for value in row.kept['test']])
    spread = np.linspace(-0.18, 0.18, len(found))
    axis.plot(place + spread, scale * found, '.', color=colour, markersize=3)
    mean, low, high = (scale * (math.nan if value is None else value)
                       for value in row.kept['score'])
    axis.errorbar(place, mean, [[mean - low], [high - mean]], fmt='_',
                  color=colour, markersize=12, capsize=3)
  axis.set_xticks(range(len(rows)), [_named(row) for row in rows],
                  rotation=40, ha='right')
  axis.set_ylabel(f'test {study.kept["measure"]} {study.kept["unit"]}')


def _courses(axis: Any, study: Study, rows: Sequence[str]) -> None:
  """Mean validation score by step."""
  steps = study.kept['every'] * np.arange(
      1, study.kept['steps'] // study.kept['every'] + 1)
  for place, name in enumerate(rows):
    curve = study.kept['scale'] * np.array(study.rows[name].kept['curve'])
    axis.plot(steps, curve, color=COLOURS[place], label=_named(name),
              linewidth=1.2)
  target = study.kept['scale'] * study.kept['target']
  axis.axhline(target, color='0.6', linestyle='--', linewidth=0.8)
  axis.set(xlabel='step', ylim=(max(0, target - 40), 100), ylabel=(
      f'validation {study.kept["measure"]} {study.kept["unit"]}'))
  axis.legend(frameon=False, fontsize=8)


def _losses(axis: Any, study: Study, rows: Sequence[str]) -> None:
  """Mean validation loss by step."""
  steps = study.kept['every'] * np.arange(
      1, study.kept['steps'] // study.kept['every'] + 1)
  ends = []
  for place, name in enumerate(rows):
    runs = [losses for losses in study.rows[name].kept['losses']
            if len(losses) == len(steps) and None not in losses]
    if runs:
      mean = np.mean(runs, 0)
      ends.append(mean[-1])
      axis.plot(steps, mean, color=COLOURS[place], label=_named(name),
                linewidth=1.2)
  axis.set(xlabel='step', ylabel='validation loss')
  axis.set_ylim(min(ends) - 0.05, min(ends) + 0.8)
  axis.legend(frameon=False, fontsize=8)


def _rates(axis: Any, study: Study, rows: Sequence[str]) -> None:
  """Mean validation score of the tuning seeds at every rate."""
  for place, name in enumerate(rows):
    tuned = {float(rate): np.mean(scores) for rate, scores
             in study.rows[name].kept['tuned'].items()}
    rates = sorted(tuned)
    axis.plot(rates, [study.kept['scale'] * tuned[rate] for rate in rates],
              color=COLOURS[place], marker=MARKS[place], markersize=3.5,
              label=_named(name), linewidth=1.2)
  axis.axhline(study.kept['scale'] * study.kept['target'], color='0.6',
               linestyle='--', linewidth=0.8)
  axis.set(xscale='log', xlabel='learning rate', ylabel=(
      f'validation {study.kept["measure"]} {study.kept["unit"]}'))
  axis.legend(frameon=False, fontsize=8)


PANELS: dict[str, Draw] = {
    'scores': _scores, 'courses': _courses, 'losses': _losses,
    'rates': _rates}
