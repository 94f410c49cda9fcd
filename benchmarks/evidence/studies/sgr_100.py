"""SGR on temporal order, T = 100, where the paper reports its gain; see `sgr`.

The same rates, and rules that were named before the search of `sgr`
was run. The start shrinks the gradient over the horizon about as much as
there.
"""

import pathlib

from benchmarks.evidence.studies import sgr

SETTING = sgr.SETTING._replace(length=100, scale=0.9, steps=4000)


def run(out: pathlib.Path) -> None:
  """Runs what is missing in the file."""
  sgr.run(out, sgr.NAMED, SETTING, 'sgr_100')
