"""Writes docs/evidence.md and its figures from results/evidence/*.json.

And the effects that README and other pages quote.
"""

import argparse
import pathlib

from benchmarks.evidence import (
  figures,
  page,
  quoted,
  registry,
  results,
  verdicts,
)
from gradnorm_optax.lab.support import files

DOCS = pathlib.Path(__file__).parents[1] / 'docs'
PAGE = DOCS / 'evidence.md'


def text() -> str:
  """The page that the results and the claims make."""
  return page.page(registry.read(), results.read())


def quotes() -> dict[pathlib.Path, str]:
  """The texts that quote effects, with those that the results hold."""
  studies = results.read()
  judged = [verdicts.judge(claim, studies.get(claim.study))
            for claim in registry.read()]
  texts = {path: path.read_text() for path in (
      DOCS.parent / 'README.md', *sorted(DOCS.glob('*.md')))}
  return {path: quoted.filled(found, judged) for path, found in texts.items()
          if '<!-- claim' in found}


def main(arguments: list[str] | None = None) -> None:
  """Writes page and figures."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--png', type=pathlib.Path,
                      help='a folder for the figures as pictures, too')
  given = parser.parse_args(arguments)
  files.write(PAGE, text())
  for path, filled in quotes().items():
    files.write(path, filled)
  figures.draw(results.read(), DOCS / 'figures', given.png)
  print(f'written: {PAGE}')


if __name__ == '__main__':
  main()
