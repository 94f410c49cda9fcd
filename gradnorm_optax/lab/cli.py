"""The `gradnorm` command."""

import pathlib
import sys
import traceback
from typing import Annotated, Any

from gradnorm_optax import lab
from gradnorm_optax.lab.support import process_wide, screen, signals, user_code
from gradnorm_optax.lab.support.errors import LabError

try:
  import typer
except ImportError:  # the core is installed without the lab
  typer = None  # type: ignore[assignment]

INSTALL = ('the lab\'s packages are not installed; run: '
           'pip install "gradnorm_optax[lab]"')


def _app() -> Any:
  """Builds the command; every heavy import waits for its command."""
  app = typer.Typer(
      no_args_is_help=True, add_completion=False,
      pretty_exceptions_enable=False, rich_markup_mode=None,
      help='Compare ways to keep gradients well scaled, on your data.',
      epilog='Begin with: gradnorm init demo. Exit codes: 0 done; 2 a mistake '
             'in what was given; 3 a run diverged, or every run of a '
             'comparison; 75: another process of a run is lost; 128 + '
             'signal: stopped.')
  Config = Annotated[pathlib.Path, typer.Argument(
      metavar='CONFIG', help='A TOML file; `gradnorm init` writes one.')]
  Set = Annotated[list[str], typer.Option(
      '--set', metavar='KEY=VALUE',
      help='Change one value, as in TOML; repeatable.')]
  Out = Annotated[pathlib.Path | None, typer.Option(
      help='The folder to write in; one below runs/ if not given.')]
  Fresh = Annotated[bool, typer.Option(
      '--fresh', help='Forget what is finished there.')]
  Scheduler = Annotated[str | None, typer.Option(
      metavar='ADDRESS', help='Run the trials on workers of dask: '
      'tcp://HOST:PORT of its scheduler, or local:N for N on this machine.')]

  @app.command()
  def init(folder: Annotated[pathlib.Path, typer.Argument(
      metavar='DIR', help='A new folder.')], data: Annotated[
          str, typer.Option(metavar='csv|pictures|series|text', help=(
              'What your data are like.'))] = 'csv', model: Annotated[
                  str, typer.Option(metavar='linen|nnx', help=(
                      'What your model is written in.'))] = 'linen') -> None:
    """Write an example with its own data and model, to start from.

    Example: gradnorm init demo
    """
    from gradnorm_optax.lab import starter
    for line in starter.write(folder, data, model):
      print(line)

  @app.command()
  def check(config: Config, set_: Set = [],  # noqa: B006
            quick: Annotated[bool, typer.Option(
                '--quick', help='Compile and time nothing.')] = False) -> None:
    """Find all mistakes; say what a comparison will do, need and take.

    Example: gradnorm check demo/config.toml
    """
    process_wide.one_thread_per_trial()
    done = lab.check(config, set_, measure=not quick)
    screen.console().print(done.table())

  @app.command()
  def compare(config: Config, set_: Set = [],  # noqa: B006
              out: Out = None, fresh: Fresh = False,
              minutes: Annotated[float | None, typer.Option(min=0.0, help=(
                  'End within so many, with fewer rates and seeds where '
                  'needed.'))] = None, scheduler: Scheduler = None) -> int:
    """Compare methods over learning rates and seeds; print the table.

    Interrupted? The same command goes on where it stopped.

    Example: gradnorm compare demo/config.toml --set train.steps=100
    """
    process_wide.one_thread_per_trial()
    if scheduler:
      process_wide.on_the_processor()
    from gradnorm_optax.lab.comparison import comparison
    done = comparison.run(
        lab.load(config, set_), out, fresh=fresh, minutes=minutes,
        scheduler=scheduler, command=screen.command(
            'compare', str(config), set=set_, minutes=minutes,
            scheduler=scheduler))
    console = screen.console()
    console.print(done.table())
    console.print(done.written())
    return 3 if done.summary.lost else 0

  @app.command()
  def inspect(config: Config, set_: Set = [],  # noqa: B006
              out: Out = None, batches: Annotated[int, typer.Option(
                  min=1, help='Training steps to look at.')] = 10,
              whole: Annotated[bool, typer.Option('--whole', help=(
                  'Spread them over the whole run.'))] = False,
              plan: Annotated[bool, typer.Option('--plan', help=(
                  'Say what one run takes on its devices; train nothing.'))
                              ] = False) -> None:
    """Show what each method does to every block's gradient.

    CONFIG may also be the folder of a `gradnorm train` run, or a checkpoint in
    it (runs/demo-train/checkpoints/200): the steps it would take next.

    Example: gradnorm inspect demo/config.toml --batches 5
    """
    from gradnorm_optax.lab.inspection import inspection, run_plan
    if plan:
      return screen.console().print(run_plan.at(config, set_).table())
    done = inspection.at(config, set_, out, batches, whole)
    screen.console().print(done.table())
    screen.console().print(f'\nFigures and inspect.json: {done.folder}')

  @app.command()
  def train(config: Config, set_: Set = [],  # noqa: B006
            out: Out = None, fresh: Fresh = False,
            distributed: Annotated[bool, typer.Option(
                '--distributed', help='One of several processes of a run; '
                'Slurm, Open MPI, Kubernetes and TPU pods say which.')] = False,
            coordinator: Annotated[str | None, typer.Option(
                metavar='HOST:PORT', help='Elsewhere: of process 0.')] = None,
            processes: Annotated[int | None, typer.Option(
                min=1, help='Elsewhere: how many there are.')] = None,
            process: Annotated[int | None, typer.Option(
                min=0, help='Elsewhere: which one this is, from 0.')] = None,
            lost_after: Annotated[int, typer.Option(
                min=1, help='Seconds after which a silent process counts as '
                'lost; exit code 75.')] = 100) -> int:
    """Train one model with one method, as [run] names them.

    Interrupted, even killed? The same command goes on from the last checkpoint.

    Example: gradnorm train demo/config.toml --set run.method=adam
    """
    from gradnorm_optax.lab.run import processes as lib
    with lib.joined(distributed, coordinator, processes, process, lost_after):
      from gradnorm_optax.lab.run import loop
      done = loop.run(lab.load(config, set_), out, fresh=fresh)
      writes = lib.first()
    if writes:
      console = screen.console()
      console.print(done.data, style='dim')
      console.print(done.table())
      console.print(done.told())
    return 128 + done.stopped if done.stopped else 0

  @app.command()
  def watch(run: Annotated[pathlib.Path, typer.Argument(
      metavar='RUN', help='The folder of `gradnorm train`.')],
            once: Annotated[bool, typer.Option(
                '--once', help='Show it, and leave.')] = False) -> None:
    """Show a running or finished run: figures, blocks out of range, advice.

    Reads its files alone; Ctrl-C leaves the run as it is.

    Example: gradnorm watch runs/demo-train
    """
    from gradnorm_optax.lab.run import follow
    follow.show(run, screen.console(), once)

  Which = Annotated[str, typer.Option(
      metavar='best|last|STEP', help='Which checkpoint.')]

  @app.command()
  def predict(run: Annotated[pathlib.Path, typer.Argument(
      metavar='RUN', help='The folder of `gradnorm train`.')],
              data: Annotated[pathlib.Path, typer.Argument(
      metavar='FILE', help='New examples: .csv, .parquet, .npz, .npy, .txt, '
      'pictures or module:function.')],
              out: Annotated[pathlib.Path, typer.Option(
      '--out', '-o', help='.csv, .parquet or .npz.')],
              checkpoint: Which = 'best') -> None:
    """Answer for new examples with a trained model.

    Example: gradnorm predict runs/demo-train demo/new.csv -o answers.csv
    """
    from gradnorm_optax.lab.serving import commands
    for line in commands.predict(run, data, out, checkpoint):
      screen.console().print(line)

  @app.command()
  def export(run: Annotated[pathlib.Path, typer.Argument(
      metavar='RUN', help='The folder of `gradnorm train`.')],
             folder: Annotated[pathlib.Path, typer.Argument(
      metavar='DIR', help='The folder to write, which must not exist.')],
             checkpoint: Which = 'best') -> None:
    """Write a trained model for other programs: weights, program, card.

    Example: gradnorm export runs/demo-train models/2026-11-28
    """
    from gradnorm_optax.lab.serving import commands
    screen.console().print(commands.export(run, folder, checkpoint))

  from gradnorm_optax.lab import cli_reading
  cli_reading.add(app)
  return app




def main(args: list[str] | None = None) -> int:
  """Runs the command; a user's mistake is one line and exit code 2."""
  came: list[int] = []
  told = ''
  try:
    if typer is None:
      raise LabError(INSTALL)
    with signals.stoppable(came):
      result = _app()(args=args, standalone_mode=False)
    code = result if isinstance(result, int) else 0
  except (Exception, signals.Stopped) as error:
    told, code = _told(error, came)
    # The help is no message.
    told = f'{"" if told.startswith("Usage:") else "gradnorm: "}{told}\n' if (
        told) else ''
  if code and args is None:
    process_wide.leave(code, told)
  sys.stderr.write(told)
  sys.exit(code)


def _told(error: BaseException, came: list[int]) -> tuple[str, int]:
  """An error as one line, and its exit code; raises what is no one's fault."""
  if isinstance(error, LabError):
    return str(error), error.code
  # A signal amid an import comes out as that import's error.
  if came:
    return ('interrupted; what was finished is kept, the same command goes on '
            'from there', 128 + came[0])
  if isinstance(error, ModuleNotFoundError) and user_code.installed(
      traceback.extract_tb(error.__traceback__)[-1].filename):
    return f'{error}: {INSTALL}', 2
  if hasattr(error, 'format_message'):
    return error.format_message(), 2
  raise error


if __name__ == '__main__':
  main()
