"""The site's API page has an entry for every public name, and no other."""

import importlib
import pathlib
import re
import types

import pytest

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'api' / 'index.md'
MODULES = ('', '.paths', '.sgr', '.linen', '.nnx', '.lab')


def _listed():
  """{module: the names that the page lists under it}."""
  found, module = {}, None
  for line in PAGE.read_text().splitlines():
    if match := re.match(r'.. currentmodule:: (\S+)', line):
      module = match[1]
    elif match := re.match(r' {3}(\w+)$', line):
      found.setdefault(module, []).append(match[1])
  return found


@pytest.mark.parametrize('name', [f'gradnorm_optax{end}' for end in MODULES])
def test_every_public_name_has_a_page(name):
  module = importlib.import_module(name)
  public = {
      key for key, value in vars(module).items()
      if not key.startswith('_') and not isinstance(value, types.ModuleType)
      and getattr(value, '__module__', '').startswith('gradnorm_optax')}
  every = _listed()
  listed = every[name]
  assert len(set(listed)) == len(listed)
  assert set(listed) <= public
  elsewhere = set().union(*every.values())  # path_norm stands under paths
  assert public <= elsewhere
