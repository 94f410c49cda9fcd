"""PyTorch's optimizers on the same tree, where torch is importable."""

import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def steps(
    params: Any, grads: Any, sing: pathlib.Path | None
) -> dict[str, Callable[[], Any]]:
  """Returns optimizer's steps to time.

  Args:
    params: A tree of arrays.
    grads: Of the same structure.
    sing: A file with the authors' class `SING(parameters, lr=)`, or None.
  """
  if importlib.util.find_spec('torch') is None:
    return {}
  import torch

  def copies():
    found = []
    for p, g in zip(jax.tree.leaves(params), jax.tree.leaves(grads),
                    strict=True):
      # In torch's layout, (out, in), so that its means are over the fan-in.
      made = torch.nn.Parameter(torch.tensor(np.asarray(p).T.copy()))
      made.grad = torch.tensor(np.asarray(g).T.copy())
      found.append(made)
    return found

  made = {
      'torch AdamW': torch.optim.AdamW(copies(), lr=1e-3),
      'torch AdamW, fused': torch.optim.AdamW(copies(), lr=1e-3, fused=True)}
  if sing is not None:
    spec: Any = importlib.util.spec_from_file_location('authors_sing', sing)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made["torch SING, the authors'"] = module.SING(copies(), lr=1e-3)
  return {name: optimizer.step for name, optimizer in made.items()}
