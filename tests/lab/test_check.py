"""`gradnorm check`: all mistakes at once; trials, memory and time before."""

import optax
import pytest
from flax import linen as nn

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import check
from gradnorm_optax.lab.results.plan import Plan, Planned, Speed
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.training.program import Program

HERE = 'test_check'


def broken(outputs):
  raise RuntimeError('no such layer')


class Wide(nn.Module):
  """One output too many."""

  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.outputs + 1)(x)


def optimizer(learning_rate):
  def update(updates, state, params=None):
    return updates['missing'], state
  return optax.GradientTransformation(lambda params: (), update)


def told(*args, **options):
  with pytest.raises(LabError) as error:
    lab.check(*args, **options)
  return str(error.value).splitlines()


@pytest.fixture
def nothing_compiled(monkeypatch):
  """Compiling a trial, or timing steps, fails."""
  def refuse(*args, **kwargs):
    raise AssertionError('compiled')
  monkeypatch.setattr(Program, 'compile', refuse)
  monkeypatch.setattr(check, '_measured', refuse)


def test_all_mistakes_of_models_and_methods(tiny, gradnorm, nothing_compiled):
  tiny.write_text(tiny.read_text() + f"""
[models.far]
kind = "recurrent"
activation = "relu"

[models.broken]
kind = "target"
target = "{HERE}:broken"

[models.wide]
kind = "target"
target = "{HERE}:Wide"

[methods.sgr]
optimizer = "adam"
sampling = {{ size = 8 }}
models = ["small"]

[methods.mine]
optimizer = "{HERE}:optimizer"
models = ["small"]

[data]
source = "iris"

[run.watch]
ranges = {{ "nowhere*" = [0, 1] }}
""")
  code, out, err = gradnorm('check', tiny, '--set', 'compare.target=80')
  assert code == 2 and not out
  lines = err.removeprefix('gradnorm: ').splitlines()
  wanted = ('[compare] target: 80 is above 1',
            '[models.far] kind = "recurrent": a recurrent net reads sequences',
            f"[models.broken] '{HERE}:broken', called with outputs=3, raised",
            f"[models.wide] '{HERE}:Wide' ",
            '[methods.sgr] on [models.small]: sampling and pascanu need a ',
            f"[methods.mine] on [models.small]: optimizer '{HERE}:optimi",
            "[run.watch] watch(ranges=...): the glob 'nowhere*' matches no")
  assert len(lines) == len(wanted), err
  for line, words in zip(lines, wanted, strict=True):
    assert line.startswith(words), line
  assert 'RuntimeError: no such layer (test_check.py, line' in lines[2]
  assert 'outputs = 3' in lines[3] and (
      'at an update, raised' in lines[5] and '(test_check.py, ' in lines[5])
  # What needs no trace of a whole step also stops a comparison, in the same
  # words, before a folder is made.
  tiny.write_text(tiny.read_text().replace('Wide', 'wide').replace(
      f'{HERE}:broken', f'{HERE}:Wide'))
  code, _, err = gradnorm('compare', tiny, '--out', tiny.parent / 'run')
  assert code == 2 and not (tiny.parent / 'run').exists()
  assert err.count('\n') == 3 and '[models.far]' in err


def test_all_mistakes_of_a_file_are_lines(tiny, nothing_compiled):
  lines = told(tiny, ['train.stpes=5', 'compare.seeds=0', 'run.seed=-1'])
  assert len(lines) == 3 and all(str(tiny) in line for line in lines)
  assert "'steps'" in lines[0] and 'and 2 more' not in lines[0]


def test_what_a_comparison_needs(tiny, gradnorm):
  """Sizes counted by hand: 64 x 16 + 16 + 16 x 10 + 10 numbers."""
  tiny.write_text(tiny.read_text() + """
[methods.sing]
optimizer = "sing"
learning_rates = [0.001, 0.01, 0.1]
""")
  found = lab.check(tiny).plan
  count = 64 * 16 + 16 + 16 * 10 + 10
  assert [(one.method, one.trials, one.parameters, one.model_bytes)
          for one in found.planned] == [
              (name, 3 * 1 + 2, count, 4 * count)
              for name in ('momentum', 'clip_momentum', 'sing')]
  # A momentum; two moments and their counter.
  sizes = [one.state_bytes for one in found.planned]
  assert sizes[:2] == [4 * count, 4 * count]
  assert 8 * count <= sizes[2] <= 8 * count + 16
  assert found.example_bytes == 1797 * (64 + 1) * 4  # digits, and labels
  assert (found.trials, found.steps, found.evaluations) == (15, 20, 2)
  speed, = found.speeds
  assert (speed.model, speed.method) == ('small', 'momentum')
  assert min(speed[2:]) > 0 and found.seconds > 3 * speed.compiling
  assert 'acts on 4 of 4 arrays' in found.planned[2].acts_on[0]
  assert not (tiny.parent / 'run').exists()
  code, out, _ = gradnorm('check', tiny, '--quick')
  assert code == 0 and '15 trials of 20 steps' in out and '1,210' in out
  assert 'sing on small: sing acts on 4 of 4' in out and 'a step' not in out


def test_the_estimate_adds_programs_and_trials():
  rows = tuple(Planned('m', name, (), False, 10, 100, 400, 800)
               for name in ('a', 'b'))
  plan = Plan('p', 'd', rows, 1000, 50, 5, 2, 1,
              (Speed('m', 'a', 0.01, 0.1, 3.0),))
  # Two programs, twenty trials of 50 steps and 5 evaluations, two workers.
  assert plan.seconds == pytest.approx((2 * 3 + 20 * (0.5 + 0.5)) / 2)
  assert plan.bytes == 1000 + 2 * (2 * 400 + 800)
  # Looks compile a program and take the steps once more; nothing evaluates.
  more = plan._replace(looks=2, timing=4.0, report=12.0)
  assert more.spent['looks'] == pytest.approx(2 * (3 + 0.5) / 2)
  assert more.seconds == pytest.approx(plan.seconds + 3.5 + 4 + 12)


def test_the_estimate_holds_all_that_a_comparison_does(tiny, gradnorm):
  tiny.write_text(tiny.read_text().replace('look = 0', 'look = 2'))
  plan = lab.check(tiny).plan
  assert plan.looks == 2 and min(plan.spent.values()) > 0
  # Timing takes three rounds at least, and its share of the whole at most.
  assert plan.timing <= max(0.25 * (plan.seconds - plan.timing), 1.0)
  code, out, _ = gradnorm('check', tiny)
  assert code == 0
  for word in ('in all', 'trials', 'looks', 'timing', 'report'):
    assert word in out


@pytest.mark.parametrize('step', [1e-6, 1e-3, 0.5])
def test_a_step_is_measured_without_what_a_call_costs(step):
  """Nor by the first call, or by the one that something else interrupts."""
  asked = []

  def call(count):
    asked.append(count)
    first, interrupted = len(asked) == 1, len(asked) in (3, 4)
    return 0.3 + step * count + 2.0 * (first or interrupted)

  assert check.marginal(call) == pytest.approx(step)
  assert step * max(asked) <= 1  # it is soon found
