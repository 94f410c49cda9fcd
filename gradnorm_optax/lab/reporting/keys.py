"""The configuration's keys, on a terminal and as a page of the docs."""

from collections.abc import Iterator, Sequence

from rich import table as rich_table

from gradnorm_optax.lab.schema.keys import Section

COLUMNS = ('key', 'takes', 'default', 'meaning')
HEAD = """\
# The configuration's keys

What `gradnorm keys --markdown` prints: the tables that check a configuration,
written out. `NAME` is a name of your own. `gradnorm keys train` shows one
section, `gradnorm keys train.steps` one key. None can be written in TOML: leave
the key out.
"""


def tables(found: Sequence[Section]) -> Iterator[rich_table.Table]:
  """One table for each section, for a console."""
  for section in found:
    shown = rich_table.Table(
        title=f'{section.heading}\n{section.about}'.strip(), box=None,
        pad_edge=False, title_justify='left', title_style='bold')
    for name in COLUMNS:
      shown.add_column(name, overflow='fold')
    for key in section.keys:
      shown.add_row(*key)
    yield shown


def markdown(found: Sequence[Section]) -> str:
  """The page of the docs."""
  return '\n'.join([HEAD, *map(_section, found)])


def _section(section: Section) -> str:
  """A heading, a sentence and a table."""
  head = section.heading
  title = f'`{head}`' if head.startswith('[') else head.capitalize()
  rows = [COLUMNS, ('---',) * len(COLUMNS), *(
      (f'`{key.name}`', key.takes, _code(key.default), key.meaning)
      for key in section.keys)]
  lines = ['| ' + ' | '.join(cell.replace('|', r'\|') for cell in row) + ' |'
           for row in rows]
  return '\n'.join([f'## {title}', '', section.about, '', *lines, ''])


def _code(default: str) -> str:
  """A default as it is written; words stay words."""
  return default if default.isalpha() or ' ' in default and (
      default[0].isalpha()) else f'`{default}`'
