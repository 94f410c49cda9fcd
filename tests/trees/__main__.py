"""Prints the table of docs/blocks.md."""

from trees import TREES, UNTOLD
from trees.verdicts import table

if __name__ == '__main__':  # pytest imports it for doctests
  print(table(TREES | UNTOLD))
