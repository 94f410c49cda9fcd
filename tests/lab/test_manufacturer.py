"""From a maker's export to a verdict, with what the messages say alone."""

import re
import tomllib

import manufacturer
import numpy as np
import pytest

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import sources

CONFIG = """
[data]
source = "file"
path = "parts.csv"
label = "Befund"

[models.net]
kind = "mlp"
depth = 1
width = 16

[methods.adam]
optimizer = "adam"

[methods.same]  # as adam, but for the name
optimizer = "optax:adam"

[methods.still]
optimizer = "sgd"
learning_rates = [1e-9, 2e-9, 4e-9]

[train]
steps = 60
eval_every = 20
score = "auc"
class_weight = "balanced"

[compare]
learning_rates = [0.001, 0.01, 0.3]
tune_seeds = 1
seeds = 5
target = 0.7
timing_rounds = 2
look = 0
workers = 1
"""
MEASURED = ('Temperatur [°C]', 'Druck [hPa]', 'Taktzeit, s', 'Gewicht [g]')
NAMES = ('Charge', 'Werkzeug', 'Prüfer')


@pytest.fixture
def export(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('COLUMNS', '400')
  manufacturer.write(tmp_path / 'parts.csv')
  (tmp_path / 'config.toml').write_text(CONFIG, encoding='utf-8')
  return tmp_path / 'parts.csv'


def test_the_export_is_what_it_says(export):
  text, probability, found = manufacturer.make()
  cells = [line.split(';') for line in text.splitlines()[1:]]
  assert len(cells) == 3000 and len({row[1] for row in cells}) == 60
  assert np.mean(probability) == pytest.approx(.05)
  empty = [cell for row in cells for cell in row[3:9]
           if cell in manufacturer.EMPTY]
  assert len(empty) / 18000 == pytest.approx(.08, abs=.005)
  assert set(empty) == set(manufacturer.EMPTY)
  assert export.read_bytes().decode('cp1252') == text
  assert np.mean(found) == pytest.approx(.05 * .99 + .95 * .01, abs=.01)


def test_one_stop_between_the_file_and_the_verdict(export, gradnorm):
  code, _, err = gradnorm('compare', 'config.toml')
  assert code == 2
  *faults, mend = err.strip().splitlines()
  assert 'parts.csv: 8 faults' in faults[0]
  for column in (*MEASURED, *NAMES, 'Datum'):
    assert sum(f'column {column!r}' in fault for fault in faults) == 1
  assert sum("dirt? If that is an empty cell, data.na_values" in fault
             for fault in faults) == 4
  # The last line is copied; the lot, which the text names, becomes a group.
  asked = tomllib.loads('found = { ' + mend.partition(': ')[2] + ' }')['found']
  assert set(asked) == {'categorical', 'ignore', 'na_values', 'missing'}
  asked['categorical'].remove('Charge')
  keys = [word for key, value in asked.items()
          for word in ('--set', f'data.{key}={value!r}')]
  code, out, err = gradnorm(
      'compare', 'config.toml', *keys, '--set', 'data.group="Charge"')
  assert code == 0, err
  gone = sum(cell in manufacturer.EMPTY
             for line in manufacturer.make()[0].splitlines()[1:]
             for cell in line.split(';')[3:9])
  counts = re.search(r'(\d+) missing cells and (\d+) missing names filled',
                     ' '.join(out.split()))
  assert sum(map(int, counts.groups())) == gone
  for note in ('not UTF-8, read as cp1252', 'separated by semicolons',
               'numbers with decimal commas',
               "column 'Seriennummer' is a whole number, another in every row",
               'groups: 42 + 9 + 9', '17 times as common'):
    assert note in out, note
  lines = out.splitlines()
  rows = {name: next(line for line in lines if line.startswith(name))
          for name in ('adam', 'same', 'still')}
  for name in ('adam', 'same'):
    assert 'does not train' not in rows[name]
  assert 'does not train' in rows['still']
  assert any(line.startswith('No difference between same and adam')
             for line in lines)
  assert (export.parent / 'runs' / export.parent.name / 'report.html').exists()


def test_the_file_is_found_beside_the_configuration(
    export, gradnorm, tmp_path, monkeypatch):
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  code, _, err = gradnorm('compare', '../config.toml')
  assert code == 2 and 'parts.csv: 8 faults' in err
  export.unlink()
  code, _, err = gradnorm('compare', '../config.toml')
  assert code == 2 and "parts.csv does not exist in " in err
  assert 'nor beside the configuration' in err


def test_its_inputs_are_what_was_measured(export):
  found = sources.load(schema.Data(
      source='file', path=str(export), label='Befund', group='Charge',
      ignore=('Datum', 'Seriennummer'), categorical=('Werkzeug', 'Prüfer'),
      na_values=('-', 'k. A.'), missing='median'))
  fitted = found.preprocessing
  np.testing.assert_allclose(
      fitted.mean[:4], [180, 12000, 32, 1500], rtol=.01)
  np.testing.assert_allclose(
      fitted.scale[:4], np.array([8, 900, 2, 40]) * .92 ** .5, rtol=.05)
  assert fitted.classes == ('i.O.', 'n.i.O.')
  assert found.train.x.shape == (2100, 4 + 3 + 3)
  shares = [part.y.mean() for part in found[:3]]
  assert max(shares) - min(shares) < .01
