"""`gradnorm report A B ...`: finished comparisons side by side."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from gradnorm_optax.lab.reporting import beside as drawing
from gradnorm_optax.lab.results import beside, results_file
from gradnorm_optax.lab.results.beside import Beside
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError


class SideBySide(NamedTuple):
  """Comparisons side by side.

  Attributes:
    found: The rows, the verdicts, and what differs.
  """

  found: Beside

  def table(self) -> Any:
    """The tables, as rich shows them on a terminal."""
    return drawing.render(self.found)


def put(folders: Sequence[str | pathlib.Path],
        out: str | pathlib.Path | None = None) -> SideBySide:
  """Reads finished comparisons, as they were judged, and writes a page.

  Args:
    folders: Two or more.
    out: The page; none if None.

  Raises:
    LabError: One is not finished, or is given twice.
  """
  paths = list(map(pathlib.Path, folders))
  if len({path.resolve() for path in paths}) < len(paths):
    raise LabError(f'{", ".join(map(str, paths))}: one folder is given twice')
  found = SideBySide(beside.put(
      {str(path): results_file.read(path) for path in paths}))
  if out is not None:
    if pathlib.Path(out).is_dir():
      raise LabError(f'{out}: a folder; --out takes the name of a page')
    files.write(out, drawing.write(found.found))
  return found
