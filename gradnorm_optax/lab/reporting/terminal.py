"""The template's table on a terminal."""

import math

from rich import console, jupyter, table, text

from gradnorm_optax.lab.objective.quality import ACCURACY, Measure
from gradnorm_optax.lab.results.findings import Row, Summary

STYLES = {'gain': 'green', 'loss': 'red', 'none': 'yellow', 'void': 'yellow'}
UNSURE = 'yellow'


class Page(console.Group, jupyter.JupyterMixin):
  """Tables and texts, on a terminal and in a notebook."""


def render(found: Summary) -> Page:
  """One table for each model, and how to read them."""
  models = dict.fromkeys(row.model for row in found.rows)
  head = text.Text(f'{found.title}\n', style='bold')
  head.append(
      f'{found.data}; {found.steps} steps; learning rate chosen on '
      f'{found.tune_seeds} seed{"s" if found.tune_seeds > 1 else ""}, results '
      f'on {found.seeds} fresh {"ones" if found.seeds > 1 else "one"}; '
      f'guessing gives {found.measure.figure(found.chance)}',
      style='not bold dim')
  parts: list[console.RenderableType] = [head]
  for model in models:
    parts.append(_one(found, model))
    parts += [text.Text(verdict.text, style=(
        STYLES[verdict.kind] if verdict.sure else UNSURE))
              for verdict in found.verdicts if verdict.model == model]
  parts.append(text.Text(_notes(found), style='dim'))
  return Page(*parts)


def _one(found: Summary, model: str) -> table.Table:
  """The table of one model."""
  # As texts, for brackets in a name are no markup.
  shown = table.Table(title=text.Text(f'\n{model}'), title_justify='left',
                      title_style='bold', pad_edge=False, box=None,
                      collapse_padding=True)
  shown.add_column('method', no_wrap=True)
  measure = found.measure
  sampled = any(row.acted is not None for row in found.rows)
  for name in ('rate', f'{found.aim} at step', 'in s',
               f'{measure.label("test")}\n[95%]', 'spread', 'validation',
               'train loss', 'diverged', 'step ms', 'x bare\n[95%]',
               *['acted %'] * sampled):
    shown.add_column(  # rather a heading in two lines than an interval
        text.Text(name), justify='right', no_wrap='[95%]' in name)
  choice = found.choice(model)
  for row in found.rows:
    if row.model == model:
      style = 'bold' if row.method == choice else None
      shown.add_row(*map(text.Text, _cells(row, measure, sampled)),
                    style=style)
  return shown


def _cells(row: Row, measure: Measure, sampled: bool) -> list[str]:
  """The cells of a row."""
  name = row.method
  cost = [f'{1000 * row.step_seconds:.3g}',
          '{1:.2f} [{0:.2f}, {2:.2f}]'.format(*row.overhead)
          if row.overhead else '1']
  if sampled:
    cost.append('-' if row.acted is None else f'{100 * row.acted:.0f}')
  failed = f'{row.diverged}/{row.seeds}'
  if not row.trains:
    told = 'not finite' if row.fault else 'does not train'
    return [name, '-', '-', '-', told, '-', '-', '-', failed, *cost]
  rate = f'{row.rate:g}' + ('!' if row.edge else '')
  steps, seconds = '-', '-'
  if math.isfinite(row.steps):
    steps = f'{row.steps:.0f}'
    seconds = f'{row.seconds:.2g}'
  if row.reached < row.seeds:
    steps += f' ({row.reached}/{row.seeds})'
  score, spread = measure.show(row.score.mean), '-'
  if row.seeds > 1:
    score += (f' [{measure.show(row.score.low)}, '
              f'{measure.show(row.score.high)}]')
    spread = measure.show(row.spread)
  return [name, rate, steps, seconds, score, spread,
          measure.show(row.validation), f'{row.train_loss:.3g}', failed, *cost]


def _notes(found: Summary) -> str:
  """Explains the signs that the table uses."""
  notes = [
      'test: judged on examples that chose nothing, the interval over seeds '
      'and examples; validation: of the same runs, on the part that chose '
      'the rates by the tuning seeds; bold: what the line below '
      'the table says to use.',
      'step: median over the seeds, (n/m) if only n of m reached the target; '
      'spread: standard deviation over the seeds; x bare: time of a step '
      'against the optimizer alone, the call apart, interleaved.']
  bare = sorted({(row.method, row.bare) for row in found.rows if row.bare})
  if bare:
    notes.append('bare: ' + ', '.join(
        f'{base} of {method}' for method, base in bare) + '.')
  if found.measure != ACCURACY:
    notes.insert(0, f'{found.measure.name}: {found.measure.meaning}; a score '
                    f'below {found.measure.figure(found.worst)} and a diverged '
                    'run count as that.')
  if any(row.acted is not None for row in found.rows):
    notes.append('acted: share of the steps in which sampling changed which '
                 'examples count; steps with and without are timed apart and '
                 'count by that share.')
  if any(row.edge and row.trains for row in found.rows):
    notes.append('! the best rate lies on the edge of its grid: widen the '
                 'grid before using this row (compare.extend = 2 does it).')
  notes += [f'not finite, not in one run ({", ".join(names)}): {fault}.'
            for fault, names in found.faults().items()]
  if any(not row.trains and not row.fault for row in found.rows):
    notes.append('does not train: no run at any rate was better than '
                 'guessing.')
  notes += found.notes
  if found.diagnosis:
    notes.append('diverged: a loss was not finite; the step and the block are '
                 f'named by {found.diagnosis}')
  return '\n' + '\n'.join(notes)
