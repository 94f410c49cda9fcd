"""The generated problems of `gradnorm init`, all small.

On the table, with the net of its configuration, methods differ: momentum alone
does not train twenty layers. Elsewhere they need not.
"""

import io
from collections.abc import Callable

import numpy as np

from gradnorm_optax.lab.support.errors import LabError

Content = dict[str, str | bytes]  # {path below the folder: what it holds}


def table() -> Content:
  """A dirty table: two spirals, mirrored by a press, with holes."""
  rng = np.random.default_rng(0)

  def rows(count: int, labelled: bool) -> str:
    kind = rng.integers(2, size=count)
    turn = rng.uniform(0.5, 3.0, size=count)
    angle = 2 * turn + np.pi * kind
    across = turn * np.cos(angle) + rng.normal(0, 0.12, count)
    along = turn * np.sin(angle) + rng.normal(0, 0.12, count)
    press = rng.integers(2, size=count)
    along = np.where(press, -along, along)
    lines = ['serial,across,along,press' + ',kind' * labelled]
    for i in range(count):
      cells = [str(1000 + i), f'{across[i]:.3f}', f'{along[i]:.3f}',
               ('left', 'right')[press[i]], *([('inner', 'outer')[kind[i]]]
                                             * labelled)]
      if i and rng.random() < 0.02:
        cells[rng.integers(1, 3)] = ('', '-')[rng.integers(2)]
      lines.append(','.join(cells))
    return '\n'.join(lines) + '\n'

  new = rows(20, False).splitlines()
  new[3] = '1002,-,0.5,left'  # a hole for certain
  return {'parts.csv': rows(800, True), 'new.csv': '\n'.join(new) + '\n'}


def shapes() -> Content:
  """Pictures of rings and squares in noise."""
  try:
    from PIL import Image
  except ImportError as error:
    raise LabError('pictures need the pillow and datasets packages; run: '
                   'pip install "gradnorm_optax[data]"') from error
  rng = np.random.default_rng(0)
  rows, columns = np.mgrid[:12, :12]

  def drawn(square: int) -> bytes:
    row, column = rng.uniform(4, 7, 2)
    down, right = abs(rows - row), abs(columns - column)
    far = np.maximum(down, right) if square else np.hypot(down, right)
    ink = 150 * (abs(far - rng.uniform(2.5, 4)) < 0.7)
    noisy = (ink + rng.uniform(0, 100, ink.shape)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, 'PNG')
    return file.getvalue()

  content: Content = {f'shapes/{name}/{i:03d}.png': drawn(kind)
                      for kind, name in enumerate(('ring', 'square'))
                      for i in range(150)}
  return content | {f'new/{i}.png': drawn(i % 2) for i in range(6)}


def series() -> Content:
  """Series whose class is decided by how they begin, 25 steps ago."""
  rng = np.random.default_rng(0)

  def rows(count: int) -> str:
    lines = ['id,step,force,speed,kind']
    for i in range(count):
      kind = int(rng.integers(2))
      force, speed = rng.normal(0, 0.3, (2, 25))
      force[:3] += (-1.0, 1.0)[kind]
      speed[2] += 1.0
      for step in range(25):
        cell = '' if rng.random() < 0.01 else f'{force[step]:.3f}'
        lines.append(f'{i},{step},{cell},{speed[step]:.3f},'
                     f'{("falls", "rises")[kind]}')
    return '\n'.join(lines) + '\n'

  return {'series.csv': rows(500), 'new.csv': rows(10)}


def text() -> Content:
  """Words whose class is decided by their first letter."""
  rng = np.random.default_rng(0)

  def words(count: int) -> tuple[list[str], list[str]]:
    kinds = rng.integers(2, size=count)
    found = ['ab'[kind] + ''.join(rng.choice(
        list('cdef'), rng.integers(8, 21))) for kind in kinds]
    return found, [('first', 'second')[kind] for kind in kinds]

  lines = ['text,kind', *map(','.join, zip(*words(500), strict=True))]
  return {'texts.csv': '\n'.join(lines) + '\n',
          'new.txt': '\n'.join(words(10)[0]) + '\n'}


MADE: dict[str, Callable[[], Content]] = {
    'csv': table, 'pictures': shapes, 'series': series, 'text': text}
