"""The claims that are put to the test, from the tables in `claims/`."""

import pathlib
import tomllib
from typing import Any, Literal

import pydantic

FOLDER = pathlib.Path(__file__).parent / 'claims'
METHODS = ('bng', 'sing', 'weight_norm', 'path_sgd', 'sgr', 'together',
           'frontier')  # as the page has them

Measure = Literal['test', 'steps', 'steps to its loss', 'rates', 'value']


class Claim(pydantic.BaseModel, extra='forbid', frozen=True):
  """One row of the table.

  Attributes:
    id: What it is called.
    method: Of which method, as a heading.
    page: The page that says how it is used.
    paper: arXiv's number; none where nobody published it.
    where: The place in the paper.
    words: What is claimed.
    setting: What it is tested on here.
    study: The configuration, or the study of `studies/`.
    treated: MODEL/METHOD of a configuration, an arm of a study; a pair of them
      stands for the first less the second.
    against: The same, or "best baseline": the one that did best in tuning, or
      a number, "=1". Where treated is "best of the search", it is the judged
      arm that did best in tuning.
    measure: What is compared; see `effects`.
    claim: Whether it is claimed to be more or less than the other, or the same.
    size: The smallest effect that would matter.
    least: What is claimed at least, where the claim is more than a sign.
    at: Of a study of its own: which trials count, {extra: value}.
    scale, unit: Of a study of its own: what its values are multiplied by, and
      what they are called then.
    what, net: The words of the practitioner's sentences: what is used, on which
      net; none where the claim decides nothing for them.
  """

  id: str
  method: str
  page: str
  paper: str | None = None
  where: str = ''
  words: str
  setting: str
  study: str
  treated: str | tuple[str, str]
  against: str | tuple[str, str]
  measure: Measure
  claim: Literal['more', 'less', 'same']
  size: float
  least: float = 0.0
  at: dict[str, float] = {}
  scale: float = 1.0
  unit: str = ''
  what: str | None = None
  net: str | None = None


def read() -> list[Claim]:
  """All claims, method by method.

  Raises:
    ValueError: An unknown key, or an id that occurs twice.
  """
  found = []
  for name in METHODS:
    path = FOLDER / f'{name}.toml'
    if path.exists():
      table: dict[str, Any] = tomllib.loads(path.read_text())
      rows = table.pop('claim')
      found += [Claim(**table | row) for row in rows]
  names = [claim.id for claim in found]
  if twice := {name for name in names if names.count(name) > 1}:
    raise ValueError(f'claims of one id: {sorted(twice)}')
  return found
