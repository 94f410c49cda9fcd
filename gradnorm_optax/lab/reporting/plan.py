"""What a comparison will do and need, on a terminal."""

from rich import console, table, text

from gradnorm_optax.lab.reporting.terminal import Page
from gradnorm_optax.lab.reporting.units import duration, size
from gradnorm_optax.lab.results.plan import Plan, Planned

COLUMNS = ('model', 'method', 'trials', 'parameters', 'their size',
           'optimizer\'s state')


def render(plan: Plan) -> Page:
  """The rows, what each method acts on, memory, time."""
  shown = table.Table(box=None, pad_edge=False)
  for i, name in enumerate(COLUMNS):
    shown.add_column(name, justify='left' if i < 2 else 'right')
  for one in plan.planned:
    shown.add_row(*map(text.Text, (
        one.model, one.method, str(one.trials), f'{one.parameters:,}',
        size(one.model_bytes), size(one.state_bytes))))
  parts: list[console.RenderableType] = [
      text.Text(plan.name, style='bold'), text.Text(plan.data, style='dim'),
      text.Text(), shown]
  acting = [line for one in plan.planned for line in _acting(one)]
  if acting:
    parts += [text.Text(), *acting]
  parts += [text.Text(), text.Text(_needs(plan))]
  return Page(*parts)


def _acting(one: Planned) -> list[text.Text]:
  """What a method acts on; yellow where that is the smaller part."""
  return [text.Text(f'{one.method} on {one.model}: {line}',
                    style='yellow' if one.partial else 'dim')
          for line in one.acts_on]


def _needs(plan: Plan) -> str:
  """Trials, memory and time, in sentences."""
  at_once = plan.workers * plan.together
  short = f' and {plan.short} of {plan.share * plan.steps:.0f} steps' if (
      plan.short) else ''
  added = f', and up to {plan.added} more where grids widen' if (
      plan.added) else ''
  searched = '' if plan.points is None else (
      f'{plan.points} points of every method. ')
  told = [
      f'{searched}{plan.trials} trials of {plan.steps} steps{short}{added}, '
      f'{at_once} at once.',
      f'Memory: about {size(plan.bytes)}, of which {size(plan.example_bytes)} '
      'are examples; activations are not counted.']
  for one in plan.speeds:
    told.append(
        f'{one.model}: {duration(one.step)} a step, {duration(one.evaluation)} '
        f'an evaluation, {duration(one.compiling)} to compile, measured with '
        f'{one.method}.')
  if plan.speeds:
    most = 'At most about' if plan.together > 1 or plan.added else 'About'
    parts = ', '.join(f'{name} {duration(seconds)}'
                      for name, seconds in plan.spent.items() if seconds)
    told.append(f'{most} {duration(plan.seconds)} in all, if the methods step '
                f'as the measured ones: {parts} (trials: tuning and fresh '
                'ones, with compilation and evaluation).')
  return '\n'.join(told)
