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
  def broken(*_):
    raise MemoryError('too large')

  monkeypatch.setattr(gpu, 'steps', broken)
  monkeypatch.setattr(gpu, 'trials', broken)
  out = tmp_path / 'gpu.json'
  gpu.main(['--tiny', '--out', str(out)])
  assert json.loads(out.read_text())['tiny'] == 'MemoryError: too large'
  gpu.main(['--tiny', '--minutes', '0', '--out', str(out)])
  assert json.loads(out.read_text())['trials'] == 'no time left'
