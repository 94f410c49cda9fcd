"""docs/use.md: from a dirty table to a prediction, by its five commands."""

import pathlib
import re
import shlex

import numpy as np
import pandas

from gradnorm_optax import lab
from gradnorm_optax.lab.serving import new_examples

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'use.md'
DIRTY = 'Nr;Größe;Presse;Befund\n' + ''.join(
    f'{i};{"k. A." if i == 7 else f"{i % 11},5"};'
    f'{"links" if i % 3 else "rechts"};{"gut" if i % 11 > 4 else "schlecht"}\n'
    for i in range(1, 121))


def commands():
  block = re.search(r'```sh\n(.*?)```', PAGE.read_text(), re.S)[1]
  return [shlex.split(line)[1:] for line in block.splitlines()]


def quick(file):
  """Fewer methods and trials."""
  text = file.read_text()
  for name in ('adam', 'sing', 'path_sgd', 'weight_norm'):
    text = re.sub(rf'\[methods\.{name}\][^[]*', '', text)
  text = re.sub(r'learning_rates = .*', 'learning_rates = [0.01]', text)
  text = re.sub(r'seeds = \d', 'seeds = 1\ntiming_rounds = 2\nlook = 0', text)
  text = text.replace('tune_seeds = 1\ntiming_rounds = 2\nlook = 0',
                      'tune_seeds = 1')
  file.write_text(text)


def said(file, **data):
  """What the page says to change in [data]."""
  text = file.read_text()
  for key, value in data.items():
    text = re.sub(rf'^{key} = \S+( .*)?$', f'{key} = {value}', text, flags=re.M)
  file.write_text(text)


def test_the_five_commands_as_they_are(gradnorm, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  first, *others = commands()
  assert len(others) == 4
  assert gradnorm(*first)[0] == 0
  quick(pathlib.Path('demo/config.toml'))
  for words in others:
    code, out, err = gradnorm(*words)
    assert code == 0, (words, err)
  found = pandas.read_csv('answers.csv', index_col='row')
  assert len(found) == 20 and found.prediction.isin(['inner', 'outer']).all()
  assert pathlib.Path('models/first/MODEL_CARD.md').exists()


def test_a_table_of_ones_own_in_its_place(gradnorm, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  first, _, train, ask, export = commands()
  gradnorm(*first)
  config = pathlib.Path('demo/config.toml')
  pathlib.Path('demo/teile.csv').write_text(DIRTY, encoding='cp1252')
  quick(config)
  said(config, path='"teile.csv"', label='"Befund"', categorical='[]',
       na_values='[]', ignore='["Nr"]', missing='"error"')
  code, _, err = gradnorm('check', config, '--quick')
  line = re.search(r'what is meant: (.*)', err)[1]
  # The last line, copied: a key that is there already takes the new value.
  for key, value in re.findall(r'(\w+) = (\[.*?\]|"\w+")', line):
    said(config, **{key: value})
  pathlib.Path('demo/neu.csv').write_text(
      'Größe;Presse\n1,5;links\n\n9,5;oben\nk. A.;rechts\n', encoding='cp1252')
  ask = [word.replace('new.csv', 'neu.csv') for word in ask]
  for words in (train, ask, export):
    code, out, err = gradnorm(*words)
    assert code == 0, (words, err)
    if words is ask:
      assert "1 row whose Presse no training example had ('oben')" in out
      assert '1 missing cell filled with the median' in out
  found = pandas.read_csv('answers.csv', index_col='row')
  assert list(found.index) == [2, 4, 5]
  assert list(found.prediction[:2]) == ['schlecht', 'gut']
  loaded = lab.load_run('runs/demo-train')
  examples = new_examples.read(
      pathlib.Path('demo/neu.csv'), loaded.data, loaded.config.data)
  np.testing.assert_allclose(
      found[['p(gut)', 'p(schlecht)']], loaded.predict(examples.x), atol=1e-6)
