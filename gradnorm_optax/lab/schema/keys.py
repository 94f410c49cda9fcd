"""Every key of the configuration, read off its own tables.

Type, default and meaning are those of the classes that check a configuration:
nothing is written twice.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gradnorm_optax.lab.schema.config import Config
from gradnorm_optax.lab.support.errors import LabError, nearest

ANY = 'NAME'  # in a section's name: whatever the user calls it


class Key(NamedTuple):
  """One key: what it takes, what holds without it, what it does."""

  name: str
  takes: str
  default: str
  meaning: str


class Section(NamedTuple):
  """One table of the configuration.

  Attributes:
    name: Such as `methods.NAME.blocks`; empty for the top of the file.
    kinds: The values of `kind` that choose this table; most have none.
    about: One sentence.
    keys: In the order of the class.
  """

  name: str
  kinds: tuple[str, ...]
  about: str
  keys: tuple[Key, ...]

  @property
  def heading(self) -> str:
    """How the section is written in a configuration."""
    kinds = ' or '.join(map(_toml, self.kinds))
    return (f'[{self.name}]' if self.name else 'top of the file') + (
        f', kind = {kinds}' if kinds else '')


def sections() -> tuple[Section, ...]:
  """All sections, in the order of a configuration.

  >>> [key.name for key in sections()[0].keys][:3]
  ['name', 'title', 'data']
  """
  whole = Config.model_json_schema()
  return tuple(_walk('', (), whole, whole['$defs']))


def select(query: str) -> tuple[Section, ...]:
  """The sections, or the single key, that a dotted name means.

  Args:
    query: A section (`train`, `methods`, `models.mlp`), a key of one
      (`train.steps`), or a key's name alone, wherever it is.

  Raises:
    LabError: Nothing has that name.

  >>> [(one.heading, one.keys[0].takes) for one in select('train.steps')]
  [('[train]', 'integer > 0')]
  """
  every = sections()
  parts = query.strip('[]').split('.')
  found = [one for one in every if one.name and _within(parts, one)]
  if not found:
    found = [_alone(one, parts[-1]) for one in every
             if parts[-1] in _names(one) and (
                 len(parts) == 1 or _fits(parts[:-1], one))]
  if not found:
    known = {name for one in every for name in (one.name, *_names(one))}
    raise LabError(f'no section or key {query!r}{nearest(query, known - {""})}')
  return tuple(found)


def names(path: Sequence[str]) -> list[str]:
  """The keys of one table, whose path holds a kind in place of a model's name.

  >>> names(['models', 'cnn'])
  ['kind', 'depth', 'width', 'activation']
  """
  return [name for one in sections() if _fits(path, one)
          for name in _names(one)]


def _names(section: Section) -> list[str]:
  return [key.name for key in section.keys]


def _alone(section: Section, key: str) -> Section:
  return section._replace(
      keys=tuple(one for one in section.keys if one.name == key))


def _within(parts: list[str], section: Section) -> bool:
  """Whether a section is what `parts` name, or lies below it."""
  return _fits(parts, section._replace(
      name='.'.join(section.name.split('.')[:len(parts)])))


def _fits(parts: Sequence[str], section: Section) -> bool:
  """Whether `parts` name the section; a kind stands for a model's name."""
  names = section.name.split('.') if section.name else []
  return len(parts) == len(names) and all(
      part == name or name == ANY and (
          not section.kinds or part in (ANY, *section.kinds))
      for part, name in zip(parts, names, strict=True))


def _walk(name: str, kinds: tuple[str, ...], table: dict[str, Any],
          known: dict[str, Any]) -> Iterator[Section]:
  """A table's section, then those of the tables in it."""
  required = table.get('required', ())
  # What a docstring says beyond its first sentence is for readers of the code.
  about = table.get('description', '').partition('\n')[0]
  yield Section(name, kinds, about, tuple(
      Key(key, _takes(one), _default(one, key in required),
          ' '.join(one.get('description', '').split()))
      for key, one in table['properties'].items()))
  for key, one in table['properties'].items():
    path = f'{name}.{key}' if name else key
    for below, some, inner in _tables(path, one, known):
      yield from _walk(below, some, inner, known)


def _tables(path: str, one: dict[str, Any], known: dict[str, Any]
            ) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
  """The tables that a key's value may be: (path, kinds, schema)."""
  for choice in one.get('anyOf', [one]):
    inner = choice.get('additionalProperties')
    if '$ref' in choice:
      yield path, (), _named(choice, known)
    elif isinstance(inner, dict) and '$ref' in inner:
      yield f'{path}.{ANY}', (), _named(inner, known)
    elif isinstance(inner, dict):
      for variant in inner.get('oneOf', ()):
        table = _named(variant, known)
        kind = table['properties']['kind']
        yield f'{path}.{ANY}', tuple(
            kind.get('enum') or [kind['const']]), table


def _named(reference: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
  return known[reference['$ref'].rpartition('/')[2]]


def _takes(one: dict[str, Any]) -> str:
  """What a key's value may be, in a few words."""
  if choices := one.get('anyOf') or one.get('oneOf'):
    found = [_takes(choice) for choice in choices
             if choice.get('type') != 'null']
    return ' or '.join(dict.fromkeys(found))
  if 'enum' in one or 'const' in one:
    return ', '.join(map(_toml, one.get('enum') or [one['const']]))
  kind = one.get('type', 'object')
  if kind == 'array':
    if 'prefixItems' in one:
      inner = dict.fromkeys(map(_takes, one['prefixItems']))
      return f'list of {len(one["prefixItems"])}: {", ".join(inner)}'
    return f'list of {_takes(one["items"])}'
  if kind in ('integer', 'number'):
    return _bounded(kind, one)
  return {'object': 'table', 'boolean': 'true, false'}.get(kind, kind)


def _bounded(kind: str, one: dict[str, Any]) -> str:
  """A number's type with its bounds.

  >>> _bounded('number', {'gt': 0.0, 'lt': 1.0}), _bounded('integer', {'ge': 1})
  ('0 < number < 1', 'integer >= 1')
  """
  def sought(*spellings: tuple[str, str]) -> tuple[str, Any]:
    return next(((sign, one[word]) for word, sign in spellings if word in one),
                ('', None))

  low_sign, low = sought(('gt', '<'), ('exclusiveMinimum', '<'),
                         ('ge', '<='), ('minimum', '<='))
  high_sign, high = sought(('lt', '<'), ('exclusiveMaximum', '<'),
                           ('le', '<='), ('maximum', '<='))
  if high is not None:
    told = f'{kind} {high_sign} {high:.10g}'
    return told if low is None else f'{low:.10g} {low_sign} {told}'
  if low is None:
    return str(kind)
  return f'{kind} {low_sign.replace("<", ">")} {low:.10g}'


def _default(one: dict[str, Any], required: bool) -> str:
  """What holds where the key is not given."""
  if 'unset' in one:
    return str(one['unset'])
  if required:
    return 'required'
  default = one.get('default')
  if default is None:
    return 'none'
  # The defaults of a whole table stand in its own section.
  return 'see below' if default and isinstance(default, dict) else _toml(
      default)


def _toml(value: Any) -> str:
  """A value as it is written in a configuration (JSON is, for these)."""
  return json.dumps(value, ensure_ascii=False)
