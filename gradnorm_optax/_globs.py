"""Globs on paths: an exact path counts first, then the first glob in order."""

import fnmatch
import re
from collections.abc import Iterable, Sequence


class Globs:
  """Globs made ready for one tree.

  A pattern that is the path of a leaf names that leaf alone, whatever signs it
  holds (`layers[0]/w`), and costs one look-up. The others are matched as
  `fnmatch.fnmatchcase` does: on the whole path, `*` crosses `/`.
  """

  def __init__(self, patterns: Iterable[str], paths: Sequence[str]):
    known = set(paths)
    every = tuple(patterns)
    self._exact = known.intersection(every)
    self._rest = tuple((glob, re.compile(fnmatch.translate(glob)).match)
                       for glob in every
                       if glob not in known and set(glob) & set('*?['))
    self._dead = tuple(glob for glob in every
                       if glob not in known and not set(glob) & set('*?['))
    self._paths = paths

  def first(self, path: str) -> str | None:
    """Returns the pattern that counts for a path, None if there is none."""
    if path in self._exact:
      return path
    return next((glob for glob, match in self._rest if match(path)), None)

  def idle(self) -> list[str]:
    """Returns the patterns that match no path."""
    return [*self._dead, *(
        glob for glob, match in self._rest
        if not any(map(match, self._paths)))]
