"""Which examples train, which choose and which judge."""

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.raw import FREE, TEST, VALIDATION, Raw, counted
from gradnorm_optax.lab.support.errors import LabError

DRAWS = 200  # of groups, of which the most even one is taken
MEND = 'raise data.validation and data.test, or join rare classes'


def divide(y: np.ndarray, config: schema.Data, part: np.ndarray | None = None,
           group: np.ndarray | None = None, time: np.ndarray | None = None
           ) -> list[np.ndarray]:
  """Divides indices into training, validation and test.

  By class, by scikit-learn's `train_test_split`; where there are groups, none
  stands on two sides; where there are times, the last examples are the test
  and those before them the validation part. The same seed, the same parts.

  Args:
    y: Classes, or zeros where there is nothing to divide by.
    config: The shares. `validation` is one of all examples but the set's own
      test part.
    part, group, time: As in `Raw`.

  Returns:
    Three arrays of indices.

  Raises:
    LabError: A part would be empty, or a class too small to be divided.
  """
  rows = np.arange(len(y))
  given = np.full(len(y), FREE) if part is None else part
  own = {code: rows[given == code] for code in (VALIDATION, TEST)}
  rest = rows[given == FREE]
  shares = dict(zip((VALIDATION, TEST), config.shares(), strict=True))
  found = {}
  for code in (TEST, VALIDATION):
    if len(own[code]):
      found[code] = own[code]
      continue
    # A share is of all examples, of which a drawn test part is taken already.
    left = 1.0 if len(own[TEST]) or code == TEST else 1 - shares[TEST]
    rest, found[code] = _two(rest, y, config, shares[code] / left,
                             group, time)
  parts = [rest, found[VALIDATION], found[TEST]]
  for rows, name in zip(parts, ('training', 'validation', 'test'), strict=True):
    if not len(rows):
      raise LabError(f'[data] {len(y)} examples cannot be divided: none is '
                     f'left for the {name} part; change data.validation and '
                     'data.test')
  return parts


def _two(rows: np.ndarray, y: np.ndarray, config: schema.Data, share: float,
         group: np.ndarray | None, time: np.ndarray | None
         ) -> tuple[np.ndarray, np.ndarray]:
  """Cuts rows in two, the second part holding a share."""
  if time is not None:
    return _by_time(rows, time, group, share)
  if group is not None:
    return _by_group(rows, y, group, share, config.seed)
  from sklearn.model_selection import train_test_split
  try:
    first, second = train_test_split(
        rows, test_size=share, random_state=config.seed, stratify=y[rows])
  except ValueError as error:
    raise LabError(f'[data] {len(y)} examples cannot be divided: {error}; '
                   f'{MEND}') from error
  return first, second


def _by_time(rows: np.ndarray, time: np.ndarray, group: np.ndarray | None,
             share: float) -> tuple[np.ndarray, np.ndarray]:
  """Cuts before the last ones; what is of one time stays together.

  A group is as late as the last of its examples.
  """
  when = np.unique(time[rows], return_inverse=True)[1]
  if group is not None:
    members = np.unique(group[rows], return_inverse=True)[1]
    last = np.zeros(members.max() + 1, int)
    np.maximum.at(last, members, when)
    when = last[members]
  # How many examples are as late as each, or later: the cut nearest to `share`.
  later = np.cumsum(np.bincount(when)[::-1])[::-1]
  if len(later) < 2:
    raise LabError(f'[data] time: {counted(len(rows), "example")} of one time '
                   'cannot be divided')
  cut = 1 + int(abs(later[1:] - share * len(rows)).argmin())
  return rows[when < cut], rows[when >= cut]


def _by_group(rows: np.ndarray, y: np.ndarray, group: np.ndarray, share: float,
              seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Takes whole groups: of many draws the one that halves each class best.

  scikit-learn's `ShuffleSplit` draws the groups; its stratified splitters know
  folds of equal size alone.
  """
  from sklearn.model_selection import ShuffleSplit
  members = np.unique(group[rows], return_inverse=True)[1]
  classes = np.unique(y[rows], return_inverse=True)[1]
  counts = np.zeros((members.max() + 1, classes.max() + 1))
  np.add.at(counts, (members, classes), 1)
  if len(counts) < 2:
    raise LabError('[data] group: too few groups to be divided, for each stands'
                   ' on one side')
  wanted = share * counts.sum(0)
  worst, best = np.inf, np.zeros(0, int)
  number = min(max(round(share * len(counts)), 1), len(counts) - 1)
  for _, taken in ShuffleSplit(
      DRAWS, test_size=number, random_state=seed).split(counts):
    # In units of the class: a rare one counts as much as a common one.
    off = float((abs(counts[taken].sum(0) - wanted) / counts.sum(0)).sum())
    if off < worst:
      worst, best = off, taken
  inside = np.isin(members, best)
  return rows[~inside], rows[inside]


def taken(parts: list[np.ndarray], sizes: tuple[int, int, int], seed: int
          ) -> tuple[np.ndarray, list[np.ndarray]]:
  """Draws so many examples of each part.

  Args:
    parts: Indices of training, validation and test.
    sizes: How many to draw of each.
    seed: Of the draw.

  Returns:
    A mask of the examples that are left, and the parts as indices of those.

  Raises:
    LabError: A part holds fewer.
  """
  generator = np.random.default_rng(seed)
  drawn = []
  for rows, size, name in zip(
      parts, sizes, ('training', 'validation', 'test'), strict=True):
    if size > len(rows):
      raise LabError(f'[data] take: {size} {name} examples, but that part '
                     f'holds {len(rows)}; take fewer, or change '
                     'data.validation and data.test')
    drawn.append(generator.permutation(rows)[:size])
  mask = np.zeros(sum(map(len, parts)), bool)
  mask[np.concatenate(drawn)] = True
  place = np.cumsum(mask) - 1
  return mask, [place[rows] for rows in drawn]


def notes(raw: Raw, parts: list[np.ndarray]) -> list[str]:
  """Says how the examples were divided, where not by class alone."""
  train, validation, test = parts
  found = []
  if raw.time is not None:
    found.append('divided by time: ' + ', '.join(
        f'{name} {_shown(raw.time[part].min())} to '
        f'{_shown(raw.time[part].max())}' for name, part in (
            ('training', train), ('validation', validation), ('test', test))))
  if raw.group is not None:
    sides = [set(raw.group[part].tolist()) for part in parts]
    found.append('groups: ' + ' + '.join(str(len(side)) for side in sides))
    both = (sides[0] & sides[1]) | (sides[0] & sides[2]) | (sides[1] & sides[2])
    if both:
      found.append(f'{counted(len(both), "group")} in more than one of the '
                   'parts that were given')
  return found


def _shown(time: np.generic) -> str:
  """A day where it is one, without the hours that nobody gave."""
  if not isinstance(time, np.datetime64):
    return f'{time:g}'
  return str(time).partition('.')[0].removesuffix('T00:00:00')
