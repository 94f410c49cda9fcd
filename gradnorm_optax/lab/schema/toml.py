"""Reads a configuration: TOML file, overrides, one clear error."""

import copy
import os
import pathlib
import re
import tomllib
from collections.abc import Sequence
from typing import Any

import pydantic
import tomli_w

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.schema import keys
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError, Mistakes, nearest

CONFIG = 'config.toml'  # of a run folder: the resolved configuration
UNKNOWN = 'extra_forbidden'  # pydantic's name of an unknown key
MODULES = 'modules.txt'  # of a run folder: where its own modules were found


def read(path: str | os.PathLike[str],
         overrides: Sequence[str] = ()) -> schema.Config:
  """Reads a configuration file.

  Args:
    path: A TOML file. `target`s are looked for in its folder first (of a run's
      own configuration, in those in which the run found them), then in the
      current one, then where Python looks.
    overrides: Assignments such as `'train.steps=500'`; the value is read as
      TOML and, where that fails, as a plain string.

  Returns:
    The checked, frozen configuration.

  Raises:
    LabError: No such file, no TOML, an unknown key, a value out of range; the
      message names the file and the section.
  """
  path = pathlib.Path(path)
  try:
    text = path.read_text(encoding='utf-8-sig')  # Windows' editors mark it
  except OSError as error:
    raise LabError(f'{path}: cannot read this configuration '
                   f'({error.strerror or error})') from error
  except UnicodeDecodeError as error:
    raise LabError(f'{path}: not UTF-8 text, which TOML must be ({error}); '
                   'save it in that encoding') from error
  try:
    raw = tomllib.loads(text)
  except tomllib.TOMLDecodeError as error:
    raise LabError(f'{path}: not valid TOML: {error}') from error
  raw = overridden(raw, overrides)
  kept = path.with_name(MODULES)
  # In this order: the current folder may hold modules of the same names.
  user_code.search((
      *(kept.read_text().splitlines() if kept.exists() else ()),
      str(path.parent.resolve()), str(pathlib.Path.cwd())))
  raw.setdefault('name', _name(path))
  return parse(raw, str(path), overrides)


def _name(path: pathlib.Path) -> str:
  """Its own, or its folder's where everyone's is called config.toml."""
  folder = path.resolve().parent.name
  name = folder if path.stem == 'config' and folder else path.stem
  return re.sub(r'[^\w.-]', '_', name)


def parse(raw: dict[str, Any], origin: str = 'configuration',
          overrides: Sequence[str] = ()) -> schema.Config:
  """Checks a configuration given as nested dictionaries."""
  try:
    return schema.Config.model_validate(raw)
  except pydantic.ValidationError as error:
    # A misspelt key is why another is missing: it comes first.
    found = sorted(error.errors(), key=lambda one: one['type'] != UNKNOWN)
    raise Mistakes([f'{origin}: {line}' for details in found
                    for line in _lines(details, overrides)]) from None


def resolved(config: schema.Config) -> str:
  """The whole configuration as TOML, defaults included."""
  return tomli_w.dumps(plain(config.model_dump(mode='json')))


def own(config: schema.Config) -> str:
  """The keys that differ from their defaults, as TOML."""
  return tomli_w.dumps(plain(
      config.model_dump(mode='json', exclude_defaults=True)))


def plain(value: Any) -> Any:
  """Drops what TOML cannot say: None."""
  if isinstance(value, dict):
    return {k: plain(v) for k, v in value.items() if v is not None}
  if isinstance(value, list):
    return [plain(v) for v in value]
  return value


def overridden(raw: dict[str, Any],
               overrides: Sequence[str]) -> dict[str, Any]:
  """A copy of the raw tables with `--set` assignments written into it."""
  raw = copy.deepcopy(raw)
  for item in overrides:
    _assign(raw, item)
  return raw


def _assign(raw: dict[str, Any], item: str) -> None:
  """Writes one `--set a.b=value` into the raw tables."""
  key, equals, text = item.partition('=')
  parts = _parts(key)
  if not equals or not parts or not all(parts):
    raise LabError(f'--set {item}: write it as section.key=value, '
                   'for example --set train.steps=500')
  table = raw
  for part in parts[:-1]:
    table = table.setdefault(part, {})
    if not isinstance(table, dict):
      raise LabError(f'--set {item}: {part!r} is a value, not a section')
  table[parts[-1]] = _value(item, text.strip())


def _parts(key: str) -> list[str]:
  """The names in a dotted key; quoted ones may hold dots and spaces."""
  try:
    found: Any = tomllib.loads(f'{key} = 0')
  except tomllib.TOMLDecodeError:
    return key.strip().split('.')
  parts = []
  while isinstance(found, dict) and len(found) == 1:
    (name, found), = found.items()
    parts.append(name)
  return parts


def _value(item: str, text: str) -> Any:
  """Reads a value as TOML and, where that fails, as a plain string."""
  try:
    return tomllib.loads(f'value = {text}')['value']
  except tomllib.TOMLDecodeError as error:
    if text[:1] in ('[', '{', '"', "'"):
      raise LabError(
          f'--set {item}: not valid TOML: {error}; inside lists and tables '
          'strings stand in quotes, and the shell takes one pair away: '
          "--set 'data.ignore=[\"a\", \"b\"]'") from error
    return text


def _lines(first: Any, overrides: Sequence[str]) -> list[str]:
  """Renders one of pydantic's complaints; ours may be several lines."""
  path = [str(part) for part in first['loc'] if part != '']  # of OrAuto
  known = path[:-1]
  # A model's path carries the tag of its union after its name: drop it.
  if path[:1] == ['models'] and len(path) > 2:
    known = ['models', path.pop(2)]
  if first['type'] == 'union_tag_invalid':
    known = first['ctx']['expected_tags'].replace("'", '').split(', ')
    kind = first['ctx']['tag']
    section = '.'.join(path)
    text = f'unknown kind of model {kind!r}{nearest(kind, known)}'
  elif first['type'] == 'union_tag_not_found':
    section, text = '.'.join(path), 'kind: field required'
  elif first['type'] == 'lab':
    section, text = '.'.join(path), first['msg']
  elif first['type'] == UNKNOWN:
    section = '.'.join(path[:-1])
    text = f'unknown key {path[-1]!r}{nearest(path[-1], keys.names(known))}'
  else:
    section, key = '.'.join(path[:-1]), path[-1] if path else ''
    given = first.get('input')
    shown = '' if isinstance(given, dict) else f', not {given!r}'
    text = f'{key}: {_in_toml(first["msg"])}{shown}'
  where = f'[{section}] ' if section else ''
  given = {item: _parts(item.partition('=')[0]) for item in overrides}
  blame = [item for item, key in given.items() if key == path[:len(key)]]
  note = f' (from --set {blame[0]})' if blame else ''
  return [where + line + note for line in text.splitlines()]


def _in_toml(text: str) -> str:
  """One of pydantic's sentences, in the words of a configuration."""
  text = text[:1].lower() + text[1:]
  text = re.sub(r' or instance of \w+| after validation', '', text)
  return text.replace('tuple', 'list').replace('dictionary', 'table')
