"""The template's table on a terminal."""

from collections.abc import Sequence

from rich import console, jupyter, table, text

from gradnorm_optax.lab.objective.quality import ACCURACY
from gradnorm_optax.lab.reporting import columns
from gradnorm_optax.lab.reporting.units import duration, size
from gradnorm_optax.lab.results.costs import Pass
from gradnorm_optax.lab.results.findings import Summary

STYLES = {'gain': 'green', 'loss': 'red', 'none': 'yellow', 'void': 'yellow'}
UNSURE = 'yellow'


class Page(console.Group, jupyter.JupyterMixin):
  """Tables and texts, on a terminal and in a notebook."""


def render(found: Summary) -> Page:
  """One table for each model, and how to read them."""
  models = dict.fromkeys(row.model for row in found.rows)
  head = text.Text(f'{found.title}\n', style='bold')
  head.append(
      f'{found.data}; {found.length}; '
      f'{f"best of {found.points} points" if found.points else "learning rate"}'
      ' chosen on '
      f'{found.tune_seeds} seed{"s" if found.tune_seeds > 1 else ""}, results '
      f'on {found.seeds} fresh {"ones" if found.seeds > 1 else "one"}; '
      f'guessing gives {found.measure.figure(found.chance)}',
      style='not bold dim')
  parts: list[console.RenderableType] = [head]
  for model in models:
    parts.append(_one(found, model))
    told = _forward(next(
        row.forward for row in found.rows if row.model == model))
    parts += [text.Text(told, style='dim')] * bool(told)
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
  rows = [row for row in found.rows if row.model == model]
  made = [column for column in columns.columns(found, rows) if not column.wide]
  for column in made:  # rather a heading in two lines than an interval
    shown.add_column(
        text.Text(f'{column.name}\n{column.note}'.rstrip()),
        justify='left' if column is made[0] else 'right',
        no_wrap=column is made[0] or bool(column.note))
  choice = found.choice(model)
  for i, row in enumerate(rows):
    shown.add_row(
        *(_cell(column, column.cells[i]) for column in made),
        style='bold' if row.method == choice else None)
  return shown


def _forward(passes: Sequence[Pass]) -> str:
  """The forward passes of a model in a line; methods have no part in them.

  >>> _forward([Pass(1, 2e-5, 20480), Pass(270, 3e-4, None)])
  'forward pass: 20 us, 20 KiB of 1 example; 300 us of 270'
  """
  if not passes:
    return ''
  parts = [duration(one.seconds) + (
      '' if one.bytes is None else f', {size(one.bytes)}')
           + f' of {one.batch}' for one in passes]
  parts[0] += ' example' + 's' * (passes[0].batch > 1)
  return 'forward pass: ' + '; '.join(parts)


def _cell(column: columns.Column, cell: columns.Cell) -> text.Text:
  """A figure and what follows it; words may use the room of both."""
  if not column.room or cell.text.replace(' ', '').isalpha():
    return text.Text(cell.text)
  return text.Text(f'{cell.text}{cell.soft:{len(column.room)}}')


def _notes(found: Summary) -> str:
  """Explains the signs that the table uses."""
  notes = [
      'test: judged on examples that chose nothing, the interval over seeds '
      'and examples; validation: of the same runs, on the part that chose '
      'the rates by the tuning seeds; bold: what the line below '
      'the table says to use.',
      'step: median over the seeds, (n/m) if only n of m reached the target; '
      'spread: standard deviation over the seeds; x bare: time of a step '
      'against the optimizer alone, the call apart, interleaved; '
      'forward pass: called again and again from Python, weight normalization '
      'folded; memory: arguments, result and all between.']
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
                 'grid before using this row (compare.extend = 2 does it).'
                 if found.points is None else
                 '! the best rate lies in an outer sixth of its range: widen '
                 'the range before using this row.')
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
