"""`python -m benchmarks NAME`: measures again what the documentation claims."""

import importlib
import pathlib
import sys

PACKAGES = {'evidence': 'benchmarks.evidence.command'}
NAMES = sorted([*PACKAGES, *(
    path.stem for path in pathlib.Path(__file__).parent.glob('*.py')
    if path.stem not in (
        '__init__', '__main__', 'common', 'overhead_floors', 'overhead_torch',
        'overhead_trees',
        'process_kills', 'processes'))])

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
  sys.exit(f'usage: python -m benchmarks NAME [OPTIONS]; NAME: {NAMES}')
name = sys.argv.pop(1)
importlib.import_module(PACKAGES.get(name, f'benchmarks.{name}')).main()
