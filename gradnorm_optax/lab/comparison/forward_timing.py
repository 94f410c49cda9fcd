"""Time and memory of a forward pass, alone and in a batch."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradnorm_optax.lab.data.dataset import Split
from gradnorm_optax.lab.results.costs import Pass
from gradnorm_optax.lab.training.forward import Forward
from gradnorm_optax.lab.training.marginal import LONG, marginal
from gradnorm_optax.lab.training.problem import EVALUATION_BATCH


def measure(served: Forward, examples: Split) -> tuple[Pass, ...]:
  """Compiles and times it for one example and for an evaluation's batch.

  Calls follow each other from Python, as a server would make them; the time of
  one is marginal, as that of a training step is.

  Args:
    served: The forward pass.
    examples: The first of these are asked.
  """
  sizes = sorted({1, min(EVALUATION_BATCH, len(examples.y))})
  given = {size: jax.device_put(jax.tree.map(
      lambda a, size=size: np.asarray(a[:size]),
      (examples.x, *(() if examples.lengths is None else (examples.lengths,)))))
           for size in sizes}
  variables = jax.device_put(served.variables)
  compiled = {size: jax.jit(served.apply).lower(
      variables, *arrays).compile() for size, arrays in given.items()}
  return tuple(Pass(size, _once(functools.partial(
      _seconds, compiled[size], (variables, *given[size]))),
                    _bytes(compiled[size])) for size in sizes)


def _once(call: Callable[[int], float]) -> float:
  """Seconds of one call among many; of a long one as it is."""
  alone = min(call(1), call(1))
  return alone if alone > LONG else marginal(call)


def _seconds(call: Callable[..., Any], given: tuple[Any, ...],
             count: int) -> float:
  """The time of so many calls, until the last result is there."""
  began = time.perf_counter()
  for _ in range(count):
    found = call(*given)
  jax.block_until_ready(found)
  return time.perf_counter() - began


def _bytes(compiled: Any) -> int | None:
  """What a program holds while it runs; None where XLA does not say."""
  try:
    found = compiled.memory_analysis()
    return (found.temp_size_in_bytes + found.argument_size_in_bytes
            + found.output_size_in_bytes)
  except (AttributeError, NotImplementedError, RuntimeError):
    return None
