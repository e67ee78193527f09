"""Task-aware memory enhancement (L2DM, arXiv 2309.04430, Eq. 4 [given], by way of Eqs. 2-3).

    L_TAME = alpha * sum over l < k of E || eps - eps^k(z_t^l | c^l) ||^2  +  beta * sum over l <= k of L_PR^l

The sums are estimated by drawing tasks: each row of the batch belongs to a task drawn evenly, so a step costs
the same at every k. The estimate is of the *mean* over the tasks; alpha and beta stand for the sums' weights
times the number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable

from .past import DrawNumbers, past_rows
from .retention import Retention, Task
from .rows import Rows


class Rehearsal(Retention):
    """The first sum, where the memory's pictures are whole ones; beside the new concept they are in ``mixes``
    of the learner.
    """

    @classmethod
    def asked(cls, task: Task) -> bool:
        return bool(task.past.memory) and not task.past.companions

    def rows(self, photos: Rows, draw: DrawNumbers) -> list[Rows]:
        past, s = self.task.past, self.task.settings
        tasks, entries, latents = past_rows(past.memory, self.task.batch, draw)
        prompts = [past.prompts[task][entry] for task, entry in zip(tasks, entries)]
        weight = s.replay_weight * self.task.method.rehearse
        return [Rows("replay", weight, latents, prompts, tuple(tasks))]

    def prompts(self) -> Iterable[str]:
        return (prompt for several in self.task.past.prompts.values() for prompt in several)
