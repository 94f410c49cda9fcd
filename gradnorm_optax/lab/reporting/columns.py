"""The columns of the template's table, for a terminal and for a page."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gradnorm_optax.lab.objective.quality import Measure
from gradnorm_optax.lab.reporting import digits
from gradnorm_optax.lab.results.findings import Row, Summary

Writer = Callable[[Sequence[float]], list[str]]


class Cell(NamedTuple):
  """What stands in a table.

  Attributes:
    text: The figure.
    soft: What follows it at once: an interval, a count, a mark.
    key: By what the column is sorted.
  """

  text: str
  soft: str = ''
  key: float | str = ''


class Column(NamedTuple):
  """One for each row of a model.

  Attributes:
    name: The heading.
    cells: One for each row.
    note: A second line of the heading.
    wide: Whether a terminal leaves it out.
  """

  name: str
  cells: list[Cell]
  note: str = ''
  wide: bool = False

  @property
  def room(self) -> str:
    """The longest of what follows a figure: all leave room for it."""
    return max((cell.soft for cell in self.cells), key=len)


def columns(found: Summary, rows: Sequence[Row]) -> list[Column]:
  """The columns of one model's rows."""
  measure = found.measure

  def figures(value: Callable[[Row], float], write: Writer) -> list[Cell]:
    return _cells([value(row) if row.trains else math.nan for row in rows],
                  write)

  def shown(values: Sequence[float]) -> list[str]:
    return list(map(_writer(measure, values), values))

  made = [
      Column('method', [Cell(row.method, key=row.method) for row in rows]),
      Column('rate', _marked(figures(lambda row: row.rate, digits.exact), [
          '!' * (row.edge and row.trains) for row in rows])),
      Column(f'{found.aim} at step', _marked(
          figures(lambda row: row.steps, digits.column), [
              f' ({row.reached}/{row.seeds})' * (
                  row.trains and row.reached < row.seeds) for row in rows])),
      Column('epoch', figures(lambda row: row.epochs, digits.column),
             wide=True),
      Column('in s', figures(lambda row: row.seconds, digits.column)),
      Column('all s', figures(lambda row: row.whole_seconds, digits.column),
             wide=True),
      Column(measure.label('test'), _scores(found, rows), '[95%]'),
      Column('spread', figures(lambda row: row.spread, shown)),
      Column('validation', figures(lambda row: row.validation, shown)),
      Column('train loss', figures(
          lambda row: row.train_loss, digits.column)),
      Column('over baseline', _differences(found, rows), '[95%]', wide=True),
      Column('diverged', [Cell(f'{row.diverged}/{row.seeds}', key=row.diverged)
                          for row in rows]),
      Column('step ms', _cells(
          [1000 * row.step_seconds for row in rows], digits.column)),
      Column('x bare', _overheads(rows), '[95%]')]
  made += _forward(rows)
  if any(row.acted is not None for row in found.rows):
    made.append(Column('acted %', [
        Cell(digits.NONE) if row.acted is None else
        Cell(f'{100 * row.acted:.0f}', key=row.acted) for row in rows]))
  return made


def _forward(rows: Sequence[Row]) -> list[Column]:
  """Time and memory of the model's forward passes, alike in all rows."""
  made = []
  for i, one in enumerate(rows[0].forward):
    note = f'of {one.batch}'
    made += [
        Column('forward ms', _cells(
            [1000 * row.forward[i].seconds for row in rows], digits.column),
               note, wide=True),
        Column('forward MiB', _cells(
            [math.nan if (held := row.forward[i].bytes) is None
             else held / 2**20 for row in rows], digits.column),
               note, wide=True)]
  return made


def _writer(measure: Measure, values: Sequence[float],
            sign: str = '') -> Callable[[float], str]:
  """Writes a column's scores, all with as many decimals."""
  places = 1 if measure.unit else digits.decimals(
      [measure.scale * value for value in values])
  # A minus is as wide as a plus.
  return lambda value: f'{measure.scale * value:{sign}.{places}f}'.replace(
      '-', '\u2212')


def _cells(values: Sequence[float], write: Writer) -> list[Cell]:
  """Values written as one column; a dash for those that are not finite."""
  known = iter(write([value for value in values if math.isfinite(value)]))
  return [Cell(next(known), key=value) if math.isfinite(value) else
          Cell(digits.NONE) for value in values]


def _marked(cells: list[Cell], marks: list[str]) -> list[Cell]:
  """Cells and what follows them."""
  return [cell._replace(soft=mark)
          for cell, mark in zip(cells, marks, strict=True)]


def _scores(found: Summary, rows: Sequence[Row]) -> list[Cell]:
  parts = digits.intervals([
      (row.score.low, row.score.mean, row.score.high) if row.trains else None
      for row in rows], _writer(
          found.measure, [row.score.mean for row in rows if row.trains]))
  return [
      Cell(mean, bracket, row.score.mean) if row.trains else
      Cell('not finite' if row.fault else 'does not train')
      for row, (mean, bracket) in zip(rows, parts, strict=True)]


def _differences(found: Summary, rows: Sequence[Row]) -> list[Cell]:
  known = [row.difference if row.trains else None for row in rows]
  parts = digits.intervals(
      [None if one is None else (one.low, one.mean, one.high)
       for one in known],
      _writer(found.measure, [one.mean for one in known if one], '+'))
  return [Cell(mean, bracket, '' if one is None else one.mean)
          for one, (mean, bracket) in zip(known, parts, strict=True)]


def _overheads(rows: Sequence[Row]) -> list[Cell]:
  parts = digits.intervals([row.overhead for row in rows], '{:.2f}'.format)
  return [Cell('1.00' if row.overhead is None else mean, bracket,
               1.0 if row.overhead is None else row.overhead[1])
          for row, (mean, bracket) in zip(rows, parts, strict=True)]
