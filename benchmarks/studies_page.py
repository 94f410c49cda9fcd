"""Writes docs/studies.md from what the studies kept, without measuring."""

from benchmarks.evidence.studies import page


def main() -> None:
  """Writes the page and its figures again."""
  page.main()


if __name__ == '__main__':
  main()
