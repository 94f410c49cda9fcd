"""`python -m benchmarks.evidence.studies NAME...`: runs or resumes studies."""

import argparse
import importlib
import pathlib

from benchmarks import common

NAMES = ('bng_equal_loss', 'dqn', 'narrow_minima', 'path_refresh', 'sgr',
         'sgr_100', 'sgr_150', 'sgr_multiplication', 'vae', 'wn_inference')


def main(arguments: list[str] | None = None) -> None:
  """Runs each into benchmarks/results/evidence/NAME.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('names', nargs='+', choices=NAMES)
  parser.add_argument('--out', type=pathlib.Path,
                      default=common.RESULTS / 'evidence')
  options = parser.parse_args(arguments)
  for name in options.names:
    module = importlib.import_module(f'benchmarks.evidence.studies.{name}')
    module.run(options.out / f'{name}.json')


if __name__ == '__main__':
  main()
