"""Learning without forgetting (LwF; Li and Hoiem, arXiv 1606.09282): distillation on the new task's own data.

There: the answers that the old network gives on the *new* pictures through its *old* outputs are kept while
the new output is learnt. Here an old output is an old prompt: the new photos, noised, are also read with the
prompts of what was known before, and

    L_LwF = mean over rows of || eps^{k-1}(z_t | c_old) - eps^k(z_t | c_old) ||^2,    z_t from the new photos

c_old: "a photo of <tom> cat" of each earlier concept, and the new noun's "a photo of a dog", of the
pretrained tasks the one most in danger. One is drawn for each row, so that a step costs the same at every k.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..concept.words import TEMPLATES, class_prompt
from .past import DrawNumbers
from .retention import Retention, Task
from .rows import Rows


def old_prompts(concepts: dict[str, str], noun: str) -> dict[str, list[str]]:
    """Task -> its prompts: the earlier ``concepts`` (token -> noun), and the class of the new ``noun``."""
    return {token: [TEMPLATES[0].format(f"{token} {of}")] for token, of in concepts.items()} | {
        noun: [class_prompt(noun)]
    }


class OldOutputs(Retention):
    """The new photos once more, each with a prompt of a task drawn evenly; what is asked of these rows is
    distillation alone.
    """

    @classmethod
    def asked(cls, task: Task) -> bool:
        return task.method.distil == "new"

    def rows(self, photos: Rows, draw: DrawNumbers) -> list[Rows]:
        known = self.task.past.prompts
        names = list(known)
        tasks = tuple(names[i] for i in draw(len(names), self.task.batch).tolist())
        prompts = [known[task][int(draw(len(known[task]), 1))] for task in tasks]
        return [Rows("old outputs", 0.0, photos.latents, prompts, tasks)]

    def prompts(self) -> Iterable[str]:
        return (prompt for several in self.task.past.prompts.values() for prompt in several)
