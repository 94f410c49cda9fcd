"""SGR on multiplication, T = 50; see `sgr` for the protocol.

Expected: as on adding in the first study, nothing learns.
"""

import functools

from benchmarks.evidence.studies import sgr

PLAN = sgr.PLAN._replace(arms=('random', 'low_2.5', 'auto'), seeds=10)
SETTING = sgr.SETTING._replace(task='multiplication', steps=2000)
run = functools.partial(sgr.run, plan=PLAN, setting=SETTING,
                        name='sgr_multiplication')
