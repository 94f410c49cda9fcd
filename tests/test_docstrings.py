"""Every public name says what it does, takes, returns and raises, and shows it.

The examples themselves run as doctests of their modules.
"""

import inspect
import re

import optax
import pytest

import gradnorm_optax as gn
from gradnorm_optax import lab, linen, nnx, paths, sgr

MODULES = (gn, paths, sgr, linen, nnx, lab)


def _public():
  """{qualified name: object}, each object once."""
  found, seen = {}, set()
  for module in MODULES:
    for name, value in vars(module).items():
      own = getattr(value, '__module__', '') or ''
      if (name.startswith('_') or id(value) in seen or inspect.ismodule(value)
          or not own.startswith('gradnorm_optax')):
        continue
      seen.add(id(value))
      found[f'{module.__name__}.{name}'] = value
  return found


PUBLIC = _public()
EXAMPLES = '\n'.join(
    line for value in PUBLIC.values()
    for line in inspect.getdoc(value).splitlines()
    if line.lstrip().startswith(('>>>', '...')))


def _section(text: str, title: str) -> str:
  found = re.search(rf'^{title}:\n((?:[ \n].*\n?)*)', text, re.MULTILINE)
  return found[1] if found else ''


@pytest.mark.parametrize('name', PUBLIC)
def test_a_public_name_is_documented(name):
  value, short = PUBLIC[name], name.rpartition('.')[2]
  text = inspect.getdoc(value)
  assert text.partition('\n')[0].endswith('.'), 'one line first'
  assert re.search(rf'\b{short}\b', EXAMPLES) or (
      _section(text, 'Attributes')), 'an example, or the attributes'
  if inspect.isclass(value):
    return
  assert re.match(r'[A-Z][a-z]+s\b', text), 'the first word is a verb'
  signature = inspect.signature(value)
  arguments = _section(text, 'Args')
  for parameter in signature.parameters:
    assert re.search(rf'^ *\*{{0,2}}{parameter}\b.*:', arguments,
                     re.MULTILINE), parameter
  if signature.return_annotation not in (None, 'None'):
    assert _section(text, 'Returns'), 'what it returns'
  if re.search(r'^\s+raise ', inspect.getsource(value), re.MULTILINE):
    assert _section(text, 'Raises'), 'what it raises'
  if signature.return_annotation in (
      optax.GradientTransformation, optax.GradientTransformationExtraArgs):
    assert '.. math::' in text or _section(text, 'References'), (
        'a formula or a source')
