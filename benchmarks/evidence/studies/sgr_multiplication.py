"""SGR on multiplication, T = 50; see `sgr` for the protocol.

Expected: as on adding in the first study, nothing learns.
"""

import pathlib

from benchmarks.evidence.studies import sgr

PLAN = sgr.NAMED._replace(seeds=10)
SETTING = sgr.SETTING._replace(task='multiplication', steps=2000)


def run(out: pathlib.Path) -> None:
  """Runs what is missing in the file."""
  sgr.run(out, PLAN, SETTING, 'sgr_multiplication')
