"""Comparisons side by side: a table on a terminal, and a page."""

from typing import NamedTuple

from rich import console, table, text

from gradnorm_optax.lab.reporting import digits, page, score_panels
from gradnorm_optax.lab.reporting.terminal import STYLES, UNSURE, Page
from gradnorm_optax.lab.results.beside import Beside
from gradnorm_optax.lab.results.findings import Row, Verdict

ABSENT = ''  # a method that a comparison does not have


class Cell(NamedTuple):
  """A score and its interval; whether it is what to use."""

  text: str
  soft: str = ''
  best: bool = False


def cells(found: Beside, model: str) -> dict[str, list[Cell]]:
  """Of every method its score in every comparison."""
  rows = found.rows[model]
  columns = []
  for i, one in enumerate(found.found.values()):
    own = [parts[i] for parts in rows.values()]
    measure = one.summary.measure
    shown = digits.intervals([
        (row.score.low, row.score.mean, row.score.high)
        if row is not None and row.trains else None for row in own],
        measure.show)
    columns.append([
        _cell(row, mean, bracket, one.summary.choice(model))
        for row, (mean, bracket) in zip(own, shown, strict=True)])
  return {method: [column[n] for column in columns]
          for n, method in enumerate(rows)}


def _cell(row: Row | None, mean: str, bracket: str,
          choice: str | None) -> Cell:
  if row is None:
    return Cell(ABSENT)
  if not row.trains:
    return Cell('not finite' if row.fault else 'does not train')
  return Cell(mean, bracket, row.method == choice)


def heads(found: Beside) -> list[str]:
  """The name of every comparison, and by what it is judged."""
  return [f'{name}\n{one.summary.measure.label("test")} [95%]'
          for name, one in found.found.items()]


def render(found: Beside) -> Page:
  """One table for each model, then what differs."""
  parts: list[console.RenderableType] = []
  for model in found.rows:
    shown = table.Table(title=text.Text(model), title_justify='left',
                        title_style='bold', box=None, pad_edge=False)
    shown.add_column('method', no_wrap=True)
    for head in heads(found):
      shown.add_column(text.Text(head), justify='right')
    for method, row in cells(found, model).items():
      shown.add_row(text.Text(method), *(
          text.Text(f'{cell.text}{cell.soft}', 'bold' if cell.best else '')
          for cell in row))
    parts += [shown, *(
        text.Text(f'{name}: {verdict.text}', style=_style(verdict))
        for name, verdict in zip(found.found, found.verdicts[model],
                                 strict=True) if verdict), text.Text()]
  parts += [text.Text(warning, style='yellow') for warning in found.warnings]
  if found.differences:
    shown = table.Table(title='What differs', title_justify='left',
                        title_style='bold', box=None, pad_edge=False)
    for name in ('', *found.found):
      shown.add_column(text.Text(name), overflow='fold')
    for key, values in found.differences.items():
      shown.add_row(*map(text.Text, (key, *values)))
    parts.append(shown)
  return Page(*parts)


def _style(verdict: Verdict) -> str:
  return STYLES[verdict.kind] if verdict.sure else UNSURE


def write(found: Beside) -> str:
  """The page; loads nothing from anywhere."""
  sheets = {
      name: score_panels.scores(one.summary)._replace(heading=name)
      for name, one in found.found.items()}
  return page.environment().get_template('beside.html.j2').render(
      found=found, heads=heads(found), names=list(found.found),
      cells={model: cells(found, model) for model in found.rows},
      sheets=page.drawn(sheets))
