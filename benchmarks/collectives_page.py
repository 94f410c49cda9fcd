"""Writes the tables of docs/scaling.md from results/collectives.json."""

import json
import pathlib
from typing import Any

from benchmarks import common
from gradnorm_optax.lab.support import files

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'scaling.md'
RESULTS = common.RESULTS / 'collectives.json'
BEGIN = '<!-- Written by `python -m benchmarks collectives`; do not edit. -->'
END = '<!-- End of what is written. -->'


def tables(results: dict[str, Any]) -> str:
  """Returns the tables, one for each layout."""
  parts = []
  for layout, methods in results['layouts'].items():
    counts = list(dict.fromkeys(
        count for row in methods.values() for count in row))
    parts += [f'`{layout}`, KiB of a step on each device (collectives):\n',
              '| method | ' + ' | '.join(
                  f'{count} device{"s" * (count != "1")}' for count in counts)
              + ' |', '| --- |' + ' ---: |' * len(counts)]
    parts += [f'| {name} | ' + ' | '.join(
        _cell(row[count]) for count in counts) + ' |'
              for name, row in methods.items()] + ['']
  return '\n'.join(parts)


def _cell(found: dict[str, Any]) -> str:
  total = sum(found['bytes'].values())
  return f'{total / 1024:.1f} ({sum(found["count"].values())})'


def page(text: str, results: dict[str, Any]) -> str:
  """Returns the page with these tables in their place."""
  head, _, rest = text.partition(BEGIN)
  _, end, tail = rest.partition(END)
  if not end:
    raise ValueError(f'{PAGE}: no {BEGIN} with {END}')
  return f'{head}{BEGIN}\n\n{tables(results)}\n{END}{tail}'


def write() -> None:
  """Writes the page again."""
  files.write(PAGE, page(PAGE.read_text(encoding='utf-8'),
                         json.loads(RESULTS.read_text())))


def main() -> None:
  """Writes the page again, without measuring."""
  write()
