"""The command itself: quick help, one line where the lab is missing."""

import subprocess
import sys

HEAVY = ('jax', 'flax', 'optax', 'sklearn', 'matplotlib', 'pydantic')


def python(code):
  return subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True, timeout=60)


def test_help_imports_nothing_heavy():
  # The package root imports JAX: only what the lab itself adds is judged.
  done = python(
      'import sys, gradnorm_optax.lab.support.errors\n'
      'before = set(sys.modules)\n'
      'from gradnorm_optax.lab import cli\n'
      'try: cli.main(["--help"])\n'
      'except SystemExit: pass\n'
      f'late = set({HEAVY!r}) & (set(sys.modules) - before)\n'
      'assert not late, late')
  assert done.returncode == 0, done.stderr
  assert 'compare' in done.stdout and 'methods' in done.stdout


def test_without_the_extra_one_line_says_what_to_install():
  done = python('import sys; sys.modules["typer"] = None\n'
                'from gradnorm_optax.lab import cli; cli.main(["methods"])')
  assert done.returncode == 2
  assert done.stderr == (
      'gradnorm: the lab\'s packages are not installed; run: '
      'pip install "gradnorm_optax[lab]"\n')


def test_missing_later_package():
  done = python('import sys; sys.modules["pydantic"] = None\n'
                'from gradnorm_optax.lab import cli\n'
                'cli.main(["compare", "x.toml"])')
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'pip install "gradnorm_optax[lab]"' in done.stderr


def test_no_command_shows_the_help(gradnorm):
  code, out, err = gradnorm()
  assert code == 2 and (out + err).startswith('Usage: ')


def test_unknown_command(gradnorm):
  code, _, err = gradnorm('compre')
  assert code == 2 and 'compare' in err and err.count('\n') == 1


def test_an_optimizer_beside_the_configuration(tiny, gradnorm):
  (tiny.parent / 'mine_for_test.py').write_text(
      'import optax\n'
      'def lazy(learning_rate, factor): return optax.sgd(factor)\n')
  code, out, _ = gradnorm(
      'compare', tiny, '--out', tiny.parent / 'run', '--set',
      'methods.mine={optimizer="mine_for_test:lazy", options={factor=0.1}}')
  assert code == 0 and 'mine' in out
