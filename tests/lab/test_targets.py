"""The user's code by its name: found, or one clear line."""

import pytest

from gradnorm_optax.lab import targets
from gradnorm_optax.lab.errors import LabError


@pytest.mark.parametrize('name', [
    ':f', 'm:', 'm', './m.py:f', 'm.py:f', '.m:f', 'a b:f', 'm:f.g'])
def test_names_of_no_function(name):
  with pytest.raises(LabError, match='names no function; write "package.mod'):
    targets.load(name)


@pytest.mark.parametrize('text, words', [
    ('def f(:', r'invalid syntax \(own_broken\.py, line 1\)'),
    ('import nothing_of_that_name', "No module named 'nothing_of_that_name'"),
    ('raise SystemExit(3)', 'ends the program; put what it runs under')])
def test_modules_that_cannot_be_imported(tmp_path, monkeypatch, text, words):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'own_broken.py').write_text(text)
  with pytest.raises(LabError, match=words):
    targets.load('own_broken:f')
