"""The notebooks run, show what they say, and their two halves agree.

`SMOKE=1` makes a percent script small: seconds, of which most is compilation.
"""

import pathlib
import runpy

import jax
import jupytext
import matplotlib
import nbformat
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / 'notebooks'
SCRIPTS = sorted(FOLDER.glob('*.py'))


@pytest.fixture
def execute(monkeypatch):
  """Executes a script in this process and returns what it defines."""
  from matplotlib import pyplot
  monkeypatch.setenv('SMOKE', '1')
  before = matplotlib.get_backend()
  pyplot.switch_backend('Agg')
  with matplotlib.rc_context(), jax.numpy_dtype_promotion(
      'standard'), jax.numpy_rank_promotion('allow'):
    yield lambda name: runpy.run_path(str(FOLDER / name))
    pyplot.close('all')
  pyplot.switch_backend(before)


def _figures_are_labelled():
  from matplotlib import pyplot
  figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
  assert len(figures) == 3
  for axis in (axis for figure in figures for axis in figure.axes):
    assert axis.get_title() and axis.get_xlabel()
    assert axis.get_ylabel() or axis.get_shared_y_axes().get_siblings(axis)
    assert len(axis.get_lines()) > 1


def test_deep_nets_train_behind_bng_only(execute):
  found = execute('01_deep_nets.py')
  raw, normalized = (
      list(found['norms_at_start'][name].values())
      for name in ('gradient', 'normalized'))
  assert all(np.diff(raw) > 0) and raw[0] < 1e-6 * raw[-1]
  np.testing.assert_allclose(normalized, 1.0, rtol=1e-5)
  final = {name: max(runs.values())
           for name, runs in found['accuracy'].items()}
  for base in ('Adam', 'momentum'):
    assert final[base] < 0.12  # ten classes: it guesses
    assert final[f'BNG + {base}'] > final[base] + 0.05
  # BNG brought the first layer to life, Adam did not.
  first = {name: norms['layer01']
           for name, norms in found['norms_at_end'].items()}
  assert first['BNG + Adam'] > 100 * first['Adam']
  # The step to paste has done something to every array.
  for old, new in zip(jax.tree.leaves(found['start']),
                      jax.tree.leaves(found['params']), strict=True):
    assert np.any(np.asarray(old) != np.asarray(new))
  _figures_are_labelled()


def test_sing_transformer_standardizes_every_layer(execute):
  found = execute('02_sing_transformer.py')
  raw, standardized = (
      found['norms_at_start'][name] for name in ('gradient', 'standardized'))
  layers = found['LAYERS']
  assert {norm.shape for path, norm in raw.items()
          if path.startswith('layers/')} == {(layers,)}
  for path, norms in standardized.items():
    if path != 'layers/attention/key/bias':  # no gradient: softmax undoes it
      np.testing.assert_allclose(norms, 1.0, rtol=1e-4, err_msg=path)
  kernels = [raw[f'layers/{name}/kernel'] for name in found['KERNELS']]
  assert np.max(kernels) > 5 * np.min(kernels)
  guessing = np.log(len(found['alphabet']))
  for runs in found['losses'].values():
    assert max(runs.values()) < guessing - 0.3
  by_path = {row.path: row for row in found['table'].rows}
  assert by_path['layers/mlp_in/kernel'].stacked == '0'
  assert by_path['layers/mlp_in/kernel'].fan_in == '1'
  _figures_are_labelled()


def test_five_methods_do_what_each_start_asks_for(execute):
  found = execute('03_five_methods.py')
  norms = {start: np.array(list(blocks.values()))
           for start, blocks in found['norms'].items()}
  assert all(norms['vanishing'] < 0.1 * norms['balanced'])
  right, curves = found['right'], found['curves']
  for name in found['METHODS']:
    assert right[name, 'balanced'] > 0.6, name
  # Momentum alone does not leave a vanishing start as soon as BNG and SING do.
  assert right['momentum', 'vanishing'] < 0.18
  assert right['SING', 'vanishing'] > right['momentum', 'vanishing'] + 0.1
  # One course from the balanced and the rescaled start; momentum's diverges.
  np.testing.assert_allclose(
      curves['Path-SGD']['unbalanced', 0.1][0],
      curves['Path-SGD']['balanced', 0.1][0], rtol=1e-2)
  assert np.isfinite(curves['momentum']['balanced', 0.1][0][-1])
  assert not np.isfinite(curves['momentum']['unbalanced', 0.1][0][-1])
  random, chosen = (found['recurrent'][name][0] for name in ('random', 'SGR'))
  assert max(random) < found['LOW'] - 0.5  # decades
  assert np.median(chosen[50:]) > np.median(random[50:]) + 2
  _figures_are_labelled()


def test_path_sgd_runs_one_course_from_a_rescaled_net(execute):
  found = execute('04_path_sgd.py')
  np.testing.assert_allclose(found['norm'], found['by_hand'], rtol=1e-5)
  for name, gamma in found['through'].items():
    np.testing.assert_allclose(found['gamma'][name], gamma, rtol=1e-4)
  # The same function and path norm; another gradient, the same step.
  assert found['change'] < 1e-4
  by_start = found['path_norms']
  np.testing.assert_allclose(by_start['unbalanced'], by_start['balanced'],
                             rtol=1e-4)
  assert found['lengths']['unbalanced'] > 10 * found['lengths']['balanced']
  gradients, steps = (
      [np.asarray(found['columns'][start][kind]) for start in found['both']]
      for kind in ('gradient', 'Path-SGD'))
  assert np.max(gradients[1]) > 100 * np.max(gradients[0])
  np.testing.assert_allclose(steps[1], steps[0], rtol=1e-3)
  for name, apart in found['apart'].items():
    assert (apart < 1e-2) if name.startswith('Path-SGD') else (
        apart > 0.1), name
  for name, moved in found['moved'].items():
    assert (max(moved) < 1e-3) if name == 'Path-SGD' else (
        min(moved) > 0.1), name
  assert 'tanh' in found['refused']
  _figures_are_labelled()


def test_weight_norm_is_one_method_in_two_spellings(execute):
  found = execute('05_weight_norm.py')
  assert found['apart'] < 1e-4
  wrapped, folded, other = (np.asarray(a) for a in found['answers'])
  np.testing.assert_allclose(folded, wrapped, atol=1e-5)
  np.testing.assert_allclose(other, wrapped, atol=1e-3)
  as_it_was, from_data = found['spread'].values()
  np.testing.assert_allclose(from_data, 1.0, rtol=1e-3)
  assert as_it_was[-1] < 1e-4
  ends = found['ends']
  assert np.isinf(ends['weight norm'][-1])  # a length explodes
  assert np.isfinite(ends['fixed lengths']).all()
  *_, fast = found['lengths'].values()
  assert fast[-1] > 3 * fast[0]  # v grows where the rate is large
  _figures_are_labelled()


def test_sgr_brings_back_a_gradient_that_does_not_arrive(execute):
  found = execute('06_recurrent.py')
  measured = np.array(list(found['measured'].values()))
  assert all(np.diff(measured) > 1) and measured[1] < found['LOW']
  np.testing.assert_allclose(
      measured, [np.log10(norms[-1]) for norms in
                 found['through_time'].values()], rtol=1e-4)
  at, late = found['RATES'].index(0.01), {}  # where no way is wild
  for way, (_, Q, _, acted) in found['runs'].items():
    late[way] = Q[at, :, -20:].mean(-1)
    assert acted.any() == (way == 'SGR + momentum'), way
    assert found['after'][way].shape == (found['LENGTH'],)
  for way in ('momentum', 'BNG + momentum', 'Adam'):
    assert all(late['SGR + momentum'] > late[way] + 1.5), way
  _figures_are_labelled()


def test_a_table_becomes_answers(execute):
  found = execute('07_own_data.py')
  for mend in ("'18,O4' is no number", 'data.categorical', 'data.missing'):
    assert mend in found['mistakes']
  assert [row.method for row in found['found'].summary.rows] == list(
      found['CONFIG']['methods'])
  assert (found['WORK'] / 'compare' / 'report.html').exists()
  answers, new = found['answers'], found['kept_back']
  assert set(answers['prediction']) <= set(new['finding'])
  assert len(answers) == len(new) and found['hit'] > 0.5
  assert {'MODEL_CARD.md', 'weights.safetensors'} <= {
      path.name for path in (found['WORK'] / 'model').iterdir()}
  _figures_are_labelled()


def test_eight_devices_train_what_one_does(execute):
  found = execute('08_sharded.py')
  assert set(found['kept'].values()) == {len(found['wanted'])}
  assert max(found['apart'].values()) < 1e-4
  total = {name: sum(size for _, size in kinds.values())
           for name, kinds in found['moved'].items()}
  assert 0 < total['BNG'] - total['AdamW'] < 500  # a few numbers a block
  gathers = {kinds['all-gather'] for kinds in found['moved'].values()}
  assert len(gathers) == 1  # no parameter is gathered for a norm
  for values in found['held'].values():
    assert values[-1] < 0.25 * values[0]
  assert found['gap'] < 1e-5
  _figures_are_labelled()


def test_a_language_model_learns_by_steps_of_one_size(execute):
  found = execute('09_language_model.py')
  table = found['table']
  assert table['symbol']['embedding'] is table['output']['kernel'] is None
  spread = {name: values[0] / np.median(values)
            for name, values in found['singular'].items()}
  assert spread['Muon'] < 2 < 5 < spread['gradient']
  rows = {name: values[0] / values[-1]
          for name, values in found['rows'].items()}
  np.testing.assert_allclose(rows['row norms'], 1.0, rtol=1e-4)
  assert rows['gradient'] > 1.5
  for name, ends in found['ends'].items():
    assert min(ends.values()) < np.log(128) - 1, name
  np.testing.assert_allclose(found['grown']['fixed lengths'], 1.0, rtol=1e-5)
  _figures_are_labelled()


def test_watching_finds_faults_that_the_tracker_did_not_see(execute):
  found = execute('10_watching_norms.py')
  loud, empty = found['LOUD'], found['EMPTY']
  for block, row in found['report'].items():
    expected = {'above': len(loud), 'first_above': loud[0],
                'last_above': loud[-1], 'below': len(empty),
                'first_below': empty[0], 'last_below': empty[-1]}
    assert {key: row[key] for key in expected} == expected, block
  seen = found['history']
  assert not set(seen) & {*loud, *empty}
  for block, row in found['report'].items():
    assert all(row['low'] < values[f'reading/gradient/{block}'] < row['high']
               for values in seen.values())
    assert max(values[f'ratio/step/{block}'] for values in seen.values()) < 0.1
  # Each fault is announced once for each block, at the next report.
  for side, steps in (('above', loud), ('below', empty)):
    at = -(-steps[-1] // found['EVERY']) * found['EVERY']
    said = [alarm for alarm in found['alarms'] if alarm[1].startswith(side)]
    assert said == [(at, f'{side}/gradient/{block}', len(steps))
                    for block in found['report']]
  # State: a few numbers for each block. In front: the gradient once more.
  bare, front, both = found['costs'].values()
  assert both['state'] < 1.01 * bare['state']
  assert front['moved'] < bare['moved'] + 3 < both['moved']
  _figures_are_labelled()


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_both_halves_hold_the_same_cells(script):
  notebook = nbformat.read(script.with_suffix('.ipynb'), as_version=4)
  nbformat.validate(notebook)
  pair = jupytext.read(script)
  cells = [[(cell.cell_type, cell.source) for cell in half.cells]
           for half in (pair, notebook)]
  assert cells[0] == cells[1]
  formats = [half.metadata['jupytext']['formats'] for half in (pair, notebook)]
  assert formats == ['ipynb,py:percent'] * 2


def test_badge_and_source_are_those_of_the_repository():
  stamp = runpy.run_path(str(FOLDER.parent / '.ci' / 'stamp.py'))
  address = stamp['repository']()
  for script in SCRIPTS:
    text = script.read_text()
    assert stamp['stamped'](text, script.stem, address) == text, (
        f'{script.name}: run .ci/stamp.py')
    moved = stamp['stamped'](text, script.stem, 'https://github.com/me/it')
    assert f'github/me/it/blob/main/notebooks/{script.stem}.ipynb' in moved
    assert '@ git+https://github.com/me/it\'' in moved and 'OWNER' not in moved


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_committed_outputs_are_whole_and_short(script):
  path = script.with_suffix('.ipynb')
  assert path.stat().st_size < 500_000
  cells = nbformat.read(path, as_version=4).cells
  code = [cell for cell in cells if cell.cell_type == 'code']
  counts = [cell.execution_count for cell in code]
  assert counts == list(range(1, len(code) + 1))  # run once, top to bottom
  outputs = [output for cell in code for output in cell.outputs]
  assert not [output for output in outputs if output.output_type == 'error'
              or output.get('name') == 'stderr']
  pictures = [output for output in outputs
              if 'image/png' in output.get('data', {})]
  assert len(pictures) == 3
