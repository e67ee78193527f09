"""Learning without forgetting (LwF; Li and Hoiem, arXiv 1606.09282): distillation on the new task's own data.

There: the answers that the old network gives on the *new* pictures through its *old* outputs are kept while
the new output is learnt. Here an old output is an old prompt: the new photos, noised, are also read with the
prompts of what was known before, and

    L_LwF = mean over rows of || eps^{k-1}(z_t | c_old) - eps^k(z_t | c_old) ||^2,    z_t from the new photos

c_old: "a photo of <tom> cat" of each earlier concept, and the new noun's "a photo of a dog", of the
pretrained tasks the one most in danger. One is drawn for each row, so that a step costs the same at every k.
"""

from __future__ import annotations

from ..concept.words import TEMPLATES, class_prompt
from .task_aware_memory import DrawNumbers


def old_prompts(concepts: dict[str, str], noun: str) -> dict[str, list[str]]:
    """Task -> its prompts: the earlier ``concepts`` (token -> noun), and the class of the new ``noun``."""
    return {token: [TEMPLATES[0].format(f"{token} {of}")] for token, of in concepts.items()} | {
        noun: [class_prompt(noun)]
    }


def old_rows(
    prompts: dict[str, list[str]], size: int, draw: DrawNumbers
) -> tuple[list[str], tuple[str, ...]]:
    """``size`` prompts, each of a task drawn evenly, and the tasks."""
    names = list(prompts)
    tasks = tuple(names[i] for i in draw(len(names), size).tolist())
    return [prompts[task][int(draw(len(prompts[task]), 1))] for task in tasks], tasks
