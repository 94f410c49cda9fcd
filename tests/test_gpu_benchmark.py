"""The script for an accelerator runs, and keeps what it found."""

import json

import jax

from benchmarks import gpu


def test_it_runs_on_a_tiny_tree(tmp_path, monkeypatch):
  monkeypatch.setattr(gpu, 'CHAINS', ('adamw', 'bng + adamw'))
  out = tmp_path / 'gpu.json'
  with jax.numpy_dtype_promotion('standard'):
    gpu.main(['--tiny', '--out', str(out)])
  found = json.loads(out.read_text())
  assert found['copy, bytes a second'] > 0
  assert found['tiny']['bng + adamw']['kernels'] > (
      found['tiny']['adamw']['kernels']) > 0
  assert found['trials']['vmap, ms'] > 0


def test_what_fails_or_has_no_time_left_is_said(tmp_path, monkeypatch):
  def broken(shapes, copied, rows, go_on):
    rows['adamw'] = {'kernels': 3}
    assert go_on()
    assert json.loads(out.read_text())['tiny'] == rows  # should it be cut off
    raise MemoryError('too large')

  monkeypatch.setattr(gpu, 'steps', broken)
  monkeypatch.setattr(gpu, 'trials', broken)
  out = tmp_path / 'gpu.json'
  gpu.main(['--tiny', '--out', str(out)])
  assert json.loads(out.read_text())['tiny'] == {
      'adamw': {'kernels': 3}, 'error': 'MemoryError: too large'}
  gpu.main(['--tiny', '--minutes', '0', '--out', str(out)])
  assert json.loads(out.read_text())['trials'] == 'no time left'


def test_the_tests_for_an_accelerator_are_found(tmp_path, monkeypatch):
  (tmp_path / 'test_one.py').write_text(
      'import pytest\n\n@pytest.mark.gpu\ndef test_it():\n  pass\n\n'
      'def test_other():\n  assert False\n')
  (tmp_path / 'test_two.py').write_text('import not_to_be_had\n')
  (tmp_path / 'pytest.ini').write_text('[pytest]\nmarkers = gpu\n')
  monkeypatch.setattr(gpu, 'TESTS', tmp_path)
  found = gpu.tests(60.0)
  assert found['passed'], found
  assert '1 passed, 1 deselected' in found['tail']
  assert 'not done in 0 s' in gpu.tests(0.0)['tail']
