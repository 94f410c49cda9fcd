"""The user's code by its name: found, or one clear line."""

import importlib
import pathlib
import sys

import pytest

from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError


@pytest.mark.parametrize('name', [
    ':f', 'm:', 'm', './m.py:f', 'm.py:f', '.m:f', 'a b:f', 'm:f.g'])
def test_names_of_no_function(name):
  with pytest.raises(LabError, match='names no function; write "package.mod'):
    user_code.resolve(name)


@pytest.mark.parametrize('text, words', [
    ('def f(:', r'invalid syntax \(own_broken\.py, line 1\)'),
    ('import nothing_of_that_name', "No module named 'nothing_of_that_name'"),
    ('raise SystemExit(3)', 'ends the program; put what it runs under')])
def test_modules_that_cannot_be_imported(tmp_path, monkeypatch, text, words):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'own_broken.py').write_text(text)
  with pytest.raises(LabError, match=words):
    user_code.resolve('own_broken:f')


@pytest.mark.parametrize('private', [True, False])
def test_a_digest_holds_what_the_file_imports(tmp_path, monkeypatch, private):
  if private:
    monkeypatch.setattr(user_code, '_places', (str(tmp_path),))
  else:
    monkeypatch.syspath_prepend(tmp_path)
  package = tmp_path / 'own_package'
  package.mkdir()
  (package / '__init__.py').write_text('')
  (package / 'net.py').write_text(
      'import json\nfrom . import layers\ndef f(): return layers.width\n')
  (tmp_path / 'own_other.py').write_text('')

  def found(width):
    (package / 'layers.py').write_text(f'import own_other\nwidth = {width}\n')
    for name in [name for name in sys.modules if '.own_' in f'.{name}']:
      del sys.modules[name]
    user_code._read.cache_clear()
    assert user_code.resolve('own_package.net:f')() == width
    return user_code.digest('own_package.net:f')

  first, second = found(1), found(23)
  assert first != second and first == found(1)
  assert len(first.split('-')) == 4  # the package, two of its files, own_other
  # What is edited while a command runs does not count for it.
  for text in ('', 'def f(:'):
    (package / 'net.py').write_text(text)
    assert user_code.digest('own_package.net:f') == first


def test_a_module_beside_each_of_two_configurations(tmp_path, monkeypatch):
  monkeypatch.setattr(user_code, '_places', ())
  digests, functions = set(), {}
  path = list(sys.path)
  for name in ('first', 'second', 'first'):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / 'own_twin.py').write_text(
        'import own_pack.late\n'
        'def f():\n'
        '  from own_helper import g\n'  # late, when others were imported
        '  return g() + own_pack.late.WORD\n')
    (folder / 'own_helper.py').write_text(f'def g(): return {name!r}\n')
    (folder / 'own_pack').mkdir(exist_ok=True)
    (folder / 'own_pack' / '__init__.py').write_text('')
    (folder / 'own_pack' / 'late.py').write_text(
        'from . import word\nfrom own_helper import g\n'
        'WORD = word.WORD + g()\n')
    (folder / 'own_pack' / 'word.py').write_text('WORD = "!"\n')
    user_code.search([str(folder)])
    function = user_code.resolve('own_twin:f')
    assert function() == f'{name}!{name}'
    assert user_code.resolve('own_twin:f') is function
    functions[name] = function
    (folder / 'own_twin.py').write_text(f'# {name}\n')
    digests.add(user_code.digest('own_twin:f'))
  assert len(digests) == 2
  # Both go on side by side, and Python's own names and paths are as before.
  assert [functions[name]() for name in ('first', 'second')] == [
      'first!first', 'second!second']
  assert sys.path == path and 'own_helper' not in sys.modules


def test_what_python_has_already_is_taken_as_it_is(tmp_path, monkeypatch):
  """A notebook that imported its model compares its classes with ours."""
  (tmp_path / 'own_public.py').write_text('def f(): return 1\n')
  (tmp_path / 'own_user.py').write_text('import own_public\nf = own_public.f\n')
  monkeypatch.syspath_prepend(tmp_path)
  public = importlib.import_module('own_public')
  monkeypatch.setattr(user_code, '_places', (str(tmp_path),))
  assert user_code.resolve('own_public:f') is public.f
  assert user_code.resolve('own_user:f') is public.f
  assert user_code.places(['own_public:f', 'own_user:f']) == [str(tmp_path)]
  # As this package itself, where its checkout is the current folder.
  monkeypatch.setattr(user_code, '_places', (
      str(pathlib.Path(user_code.__file__).parents[3]),))
  assert user_code.resolve(
      'gradnorm_optax.lab.support.user_code:resolve') is user_code.resolve
