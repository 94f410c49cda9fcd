"""What looks like a mistake in data that can be read: told, never mended."""

import collections
from collections.abc import Iterable, Iterator

import numpy as np

from gradnorm_optax.lab.data.raw import Raw, counted, few
from gradnorm_optax.lab.objective import padding

LEAST = 20  # rows from which on "different in every row" says something
SQUEEZED = 1e-3  # of the deviation: the middle 80% beside an outlier


def of_labels(raw: Raw) -> list[str]:
  """Labels that differ by case or blanks alone."""
  if raw.y.ndim != 1 or raw.y.dtype.kind not in 'UO':
    return []
  alike = _alike({one for one in raw.y.tolist() if isinstance(one, str)})
  return [f'labels that differ by case or blanks alone: {alike}; are they one '
          'class?'] if alike else []


def of_inputs(raw: Raw, number: bool) -> list[str]:
  """Columns that teach nothing, too much, or nothing that will last.

  Args:
    raw: Labelled examples; their numbers as they were read, before scaling.
    number: Whether the label is a number.
  """
  if raw.x.dtype.kind != 'f' or raw.x.ndim > 3 or raw.image is not None or (
      not len(raw.x)):
    return []
  notes = []
  for i, kinds in (raw.kinds or {}).items():
    if alike := _alike(kinds):
      notes.append(f'names in column {_called(raw, i)} that differ by case or '
                   f'blanks alone: {alike}')
  constant, rounded, entries = [], [], 0
  for i, column in _entries(raw):
    entries += 1
    if raw.kinds and i in raw.kinds:
      if len(np.unique(column[np.isfinite(column)])) < 2:
        constant.append(i)
      continue
    known = column[np.isfinite(column)]
    if len(known) and abs(known).max() >= 2 ** 53 and (
        known == np.round(known)).all():
      rounded.append(i)
    elif _one_value(known):
      constant.append(i)
    else:
      notes += _outlier(raw, i, column, known)
    if raw.columns and raw.x.ndim == 2:
      notes += _row_number(raw, i, known)
  notes += _one_value_note(raw, constant, entries)
  if rounded:
    notes.append(f'whole numbers of 2**53 and more in '
                 f'{few([_called(raw, i) for i in rounded])} are rounded to '
                 'decimals; identifiers? (data.ignore)')
  if raw.x.ndim == 2 and raw.y.ndim == 1:
    notes += [f'column {_called(raw, i)} tells the label by itself; is it known'
              ' before the label is? else data.ignore'
              for i in _telling(raw, number)]
  if bare := int(np.sum(_without_number(raw))):
    notes.append(f'{counted(bare, "example")} without a single number, filled '
                 'throughout')
  return notes


def of_division(raw: Raw, parts: list[np.ndarray]) -> list[str]:
  """Examples whose inputs stand in the training part, too."""
  lengths = raw.lengths if raw.lengths is not None else np.zeros(
      len(raw.x), np.int32)

  def keys(rows: np.ndarray) -> Iterator[int]:
    for row in rows:
      yield hash((raw.x[row].tobytes(), int(lengths[row])))

  known = set(keys(parts[0]))
  counts = [sum(key in known for key in keys(part)) for part in parts[1:]]
  if not any(counts):
    return []
  return [f'examples whose inputs the training part holds, too: {counts[0]} of '
          f'{len(parts[1])} in validation, {counts[1]} of {len(parts[2])} in '
          'the test']


def _alike(names: Iterable[str]) -> str:
  """Names that are one but for case and blanks, in words."""
  same = collections.defaultdict(list)
  for name in sorted(names):
    same[' '.join(name.split()).casefold()].append(name)
  return few([' / '.join(map(repr, group)) for group in same.values()
              if len(group) > 1])


def _entries(raw: Raw) -> Iterator[tuple[int, np.ndarray]]:
  """Each column, or each channel of sequences without its padding."""
  flat = raw.x.reshape(-1, raw.x.shape[-1])
  if raw.lengths is not None and raw.x.ndim == 3:
    flat = flat[padding.inside(raw.lengths, raw.x.shape[1]).ravel()]
  for i in range(flat.shape[1]):
    yield i, flat[:, i]


def _called(raw: Raw, entry: int) -> str:
  return repr(raw.columns[entry]) if raw.columns else str(entry)


def _one_value(known: np.ndarray) -> bool:
  """Whether numbers differ by no more than their own rounding.

  >>> _one_value(np.array([.1, .1 + 2e-17])), _one_value(np.array([0, 1e-17]))
  (True, False)
  """
  if not len(known):
    return True
  return bool(np.ptp(known) <= 4 * np.finfo(known.dtype).eps
              * abs(known).max())


def _one_value_note(raw: Raw, constant: list[int], entries: int) -> list[str]:
  if not constant:
    return []
  if raw.columns:
    return ['columns of one value alone, which teach nothing: '
            + ', '.join(str(raw.columns[i]) for i in constant)]
  return [f'{len(constant)} of {entries} inputs '
          f'{"has" if len(constant) == 1 else "have"} one value alone, which '
          'teaches nothing']


def _row_number(raw: Raw, entry: int, known: np.ndarray) -> list[str]:
  """A whole number that is another in every row."""
  if len(known) < max(LEAST, len(raw.x)) or (
      known != np.round(known)).any() or len(np.unique(known)) < len(known):
    return []
  return [f'column {_called(raw, entry)} is a whole number, another in every '
          'row: the row\'s own? (data.ignore)']


def _outlier(raw: Raw, entry: int, column: np.ndarray, known: np.ndarray
             ) -> list[str]:
  """A number beside which all the others look alike."""
  low, middle, high = np.quantile(known, (.1, .5, .9))
  with np.errstate(over='ignore'):
    deviation = known.std(dtype=np.float64)
  if not 0 < high - low < SQUEEZED * deviation:
    return []
  row = int(np.nanargmax(np.where(np.isfinite(column), abs(column - middle),
                                  -1)))
  if raw.x.ndim == 3:
    return [f'channel {entry}: {column[row]:g} is so far from the others that '
            'they look alike']
  return [f'{raw.where(row, entry)}: {column[row]:g} is so far from the others '
          f'that they look alike (8 of 10 within '
          f'{(high - low) / deviation:.0e} deviations)']


def _telling(raw: Raw, number: bool) -> list[int]:
  """The columns that are the label in other words."""
  found = []
  y: np.ndarray
  if number:
    try:
      y = raw.y.astype(np.float64)
    except (TypeError, ValueError):
      return []
  else:
    names, y = np.unique(raw.y.astype(str), return_inverse=True)
  for i in range(raw.x.shape[1]):
    rows = np.isfinite(raw.x[:, i])
    if number:
      if raw.kinds and i in raw.kinds or rows.sum() < LEAST:
        continue
      a, b = raw.x[rows, i].astype(np.float64), y[rows]
      a, b = a - a.mean(), b - b.mean()
      with np.errstate(over='ignore', invalid='ignore'):
        told = abs(a @ b) > (1 - 1e-9) * np.sqrt((a @ a) * (b @ b)) > 0
    else:
      values, codes = np.unique(raw.x[rows, i], return_inverse=True)
      told = len(values) == len(names) > 1 and (
          len(np.unique(codes * len(names) + y[rows])) == len(names)
          == len(np.unique(y[rows])))
    if told:
      found.append(i)
  return found


def _without_number(raw: Raw) -> np.ndarray:
  """Marks examples of which no cell is known."""
  known = np.isfinite(raw.x)
  if raw.lengths is not None and raw.x.ndim == 3:
    known &= padding.inside(raw.lengths, raw.x.shape[1])[..., None]
  return ~known.reshape(len(known), -1).any(1)
