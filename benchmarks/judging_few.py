"""What the least comparison that `--minutes` makes can still decide.

    python -m benchmarks judging_few

The worlds of `python -m benchmarks judging`, 270 examples, one baseline, judged
by the lab's rule, with one or two tuning seeds and three to five fresh ones:
how often equals differ, and how often a rival is seen that is better by an
eighth or by a quarter of a score's deviation.
"""

import argparse

from benchmarks import common, judging

WORLDS = ('both', 'right or wrong, 86%', 'rates that tuning confuses')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=400)
  count = parser.parse_args().count
  cells = []
  for tune in (1, 2):
    for seeds in (3, 4, 5):
      for better in (0.0, judging.GAIN, 2 * judging.GAIN):
        for name in WORLDS:
          found = judging.cell(name, 270, seeds, better, count, 1, tune)
          cells.append({'tuning seeds': tune} | {
              key: found[key] for key in (
                  'world', 'seeds', 'better', 'comparisons', 'lab')})
          print(*cells[-1].values(), flush=True)
  common.save('judging_few', {'cells': cells})


if __name__ == '__main__':
  main()
