"""A manufacturer's export, made up: `python tests/lab/manufacturer.py FILE`.

As a German spreadsheet writes it: semicolons, decimal commas, points between
thousands, cp1252. 3000 parts in 60 lots over 60 days, 5% of them defect, 8% of
the measured cells empty in three spellings, a serial number, and 1% of the
findings wrong.
"""

import pathlib
import sys

import numpy as np

PARTS, LOTS = 3000, 60
EMPTY = ('', '-', 'k. A.')
HEADER = ('Seriennummer', 'Charge', 'Datum', 'Temperatur [°C]', 'Druck [hPa]',
          'Taktzeit, s', 'Gewicht [g]', 'Werkzeug', 'Prüfer', 'Befund')


def german(value: float, digits: int) -> str:
  """A number with a decimal comma and points between thousands."""
  return f'{value:,.{digits}f}'.translate(str.maketrans(',.', '.,'))


def make(seed: int = 0) -> tuple[str, np.ndarray, np.ndarray]:
  """The table's text, every part's true probability of a defect, and findings.

  A part is at risk where it was too hot or too cold for its pressure, with one
  of the three tools, and in some lots more than in others.
  """
  rng = np.random.default_rng(seed)
  lot = np.arange(PARTS) * LOTS // PARTS
  heat, pressure, cycle, weight = rng.normal(size=(4, PARTS))
  tool = rng.integers(3, size=PARTS)
  risk = (1.6 * abs(heat - .6 * pressure) + .8 * (tool == 2) + .5 * cycle
          + rng.normal(0, .4, LOTS)[lot])
  # The intercept that gives 5% defects.
  low, high = -30.0, 30.0
  for _ in range(60):
    middle = (low + high) / 2
    rate = np.mean(1 / (1 + np.exp(-3 * (risk + middle))))
    low, high = (low, middle) if rate > .05 else (middle, high)
  probability = 1 / (1 + np.exp(-3 * (risk + low)))
  defect = rng.random(PARTS) < probability
  wrong = rng.permutation(PARTS)[:PARTS // 100]
  found = defect.copy()
  found[wrong] = ~found[wrong]
  measured = np.array([
      [german(180 + 8 * v, 1) for v in heat],
      [german(12000 + 900 * v, 1) for v in pressure],
      [german(32 + 2 * v, 2) for v in cycle],
      [german(1500 + 40 * v, 0) for v in weight],
      [('A', 'B', 'C')[i] for i in tool],
      [('Müller', 'Weiß', 'Kranz')[i] for i in rng.integers(3, size=PARTS)],
  ], object)
  gone = rng.random(measured.shape) < .08
  measured[gone] = np.array(EMPTY, object)[rng.integers(3, size=gone.sum())]
  lines = [';'.join(HEADER)]
  for i in range(PARTS):
    day = np.datetime64('2024-01-08') + np.timedelta64(int(lot[i]), 'D')
    date = '.'.join(reversed(str(day).split('-')))
    lines.append(';'.join((
        str(4_711_000 + i), f'C-{lot[i]:03d}', date, *measured[:, i],
        'n.i.O.' if found[i] else 'i.O.')))
  return '\r\n'.join([*lines, '']), probability, found


def write(path: pathlib.Path, seed: int = 0) -> None:
  path.write_bytes(make(seed)[0].encode('cp1252'))


if __name__ == '__main__':
  write(pathlib.Path(sys.argv[1]))
