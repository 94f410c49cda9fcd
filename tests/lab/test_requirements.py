"""What the lab imports is declared."""

import ast
import pathlib
import re
import sys
import tomllib

import gradnorm_optax

ROOT = pathlib.Path(gradnorm_optax.__file__).parents[1]
PACKAGES = {'PIL': 'pillow', 'orbax': 'orbax-checkpoint',
            'pydantic_core': 'pydantic', 'sklearn': 'scikit-learn',
            'tomli_w': 'tomli-w'}


def imported(file):
  """The top modules that a file imports, lazily or not."""
  for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      yield from (alias.name.partition('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield (node.module or '').partition('.')[0]


def test_every_package_that_the_lab_imports_is_declared():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  extras = project['optional-dependencies']
  declared = {re.split(r'[>=<\[]', line)[0] for line in [
      *project['dependencies'], *extras['flax'], *extras['lab'],
      *extras['data'], *extras['cluster']]}
  names = {name for file in (ROOT / 'gradnorm_optax' / 'lab').rglob('*.py')
           for name in imported(file)}
  theirs = names - set(sys.stdlib_module_names) - {'gradnorm_optax'}
  assert len(theirs) > 15  # they were read
  assert {PACKAGES.get(name, name) for name in theirs} <= declared
