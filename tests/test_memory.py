"""The rainbow score and memory against literal twins and a worked example."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.keeping import literal_running_means
from reference.rainbow import literal_score, literal_select

from l2dm.memory import LongTerm, ShortTerm, rainbow_score, rebuild, select
from l2dm.memory.bank import _affordable
from l2dm.retention import ElasticWeights


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.floats(0, 3), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_score_is_its_literal_twin(candidates, stored, others, guide, seed):
    g = torch.Generator().manual_seed(seed)
    a, i, b = (torch.randn(n, 7, generator=g) for n in (candidates, stored, others))
    everything = torch.cat([a, b])
    fast = rainbow_score(a, everything, i, guide)
    for row in range(candidates):
        for column in range(stored):
            slow = literal_score(a[row].tolist(), everything.tolist(), i[column].tolist(), guide)
            assert fast[row, column].item() == pytest.approx(slow, abs=1e-4)
    chosen, best = (
        select(a, everything, i, guide).tolist(),
        literal_select(a.tolist(), everything.tolist(), i.tolist(), guide),
    )
    for column in range(
        stored
    ):  # the scores and not the candidates: there are ties, and rounding breaks them
        assert fast[chosen[column], column].item() == pytest.approx(
            fast[best[column], column].item(), abs=1e-5
        )


def test_a_worked_example():
    """Candidates at 0, 0 and 90 degrees, the stored feature at 0. Diversity: 1/3, 1/3, 2/3; likeness: 1, 1,
    0.
    """
    candidates, stored = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    assert rainbow_score(candidates, candidates, stored, 0.25).flatten().tolist() == pytest.approx(
        [7 / 12, 7 / 12, 2 / 3]
    )
    assert select(candidates, candidates, stored, 0.25).item() == 2, (
        "a weak guide prefers the one unlike the others"
    )
    assert select(candidates, candidates, stored, 1.0).item() == 0, (
        "a strong guide prefers the one like the concept"
    )


LONG = LongTerm(
    {t: torch.eye(4)[:2] for t in ("<a>", "<b>", "<c>")},
    {t: [f"{t} one", f"{t} two"] for t in ("<a>", "<b>", "<c>")},
)


class Pen:
    """Draws latents that say which prompt and seed they come from."""

    def __init__(self):
        self.prompts = []

    def __call__(self, prompts, seed):
        self.prompts.append(prompts)
        g = torch.Generator().manual_seed(seed)
        return torch.randn(len(prompts), 1, 2, 2, generator=g), torch.randn(len(prompts), 4, generator=g)


def test_to_the_letter_every_prompt_gets_eta_candidates():
    pen = Pen()
    short = rebuild(LONG, ShortTerm(), pen, turn=3, candidates=3)
    assert [p for call in pen.prompts for p in call] == [
        f"{t} {n}" for t in LONG.prompts for n in ("one", "two") for _ in range(3)
    ]
    assert {t: len(x) for t, x in short.latents.items()} == {"<a>": 2, "<b>": 2, "<c>": 2}


def test_a_budget_bounds_the_drawing_and_takes_the_tasks_in_turn():
    pen, short = Pen(), ShortTerm()
    order = []
    for turn in range(4):
        pen.prompts.clear()
        short = rebuild(LONG, short, pen, turn, candidates=2, budget=4)
        assert sum(map(len, pen.prompts)) <= 4
        order.append([call[0].split()[0] for call in pen.prompts])
    assert order == [["<a>", "<b>"], ["<c>", "<a>"], ["<b>"], ["<a>"]]
    assert set(short.latents) == {"<a>", "<b>", "<c>"} and short.drawn_in == {"<a>": 3, "<b>": 2, "<c>": 1}


def test_a_budget_may_be_spent_to_the_last_picture():
    long = LongTerm(prompts={"<a>": ["a"], "<b>": ["b"]})
    drawn = ShortTerm(drawn_in={"<a>": 1, "<b>": 2})
    assert _affordable(["<a>", "<b>"], long, drawn, candidates=2, budget=4) == (["<a>", "<b>"], 2)
    assert _affordable(["<a>", "<b>"], long, drawn, candidates=2, budget=3) == (["<a>"], 2)


def test_over_nine_tasks_of_five_photos_old_ones_are_drawn_again_in_turn():
    pen, short, long = Pen(), ShortTerm(), LongTerm()
    for turn in range(1, 10):
        newest = f"<{turn}>"
        long.features[newest] = torch.randn(5, 4, generator=torch.Generator().manual_seed(turn))
        long.prompts[newest] = [f"{newest} {view}" for view in range(5)]
        oldest = min(short.drawn_in, key=short.drawn_in.get, default=newest)
        pen.prompts.clear()
        short = rebuild(long, short, pen, turn, candidates=4, budget=32)
        assert {token for token, when in short.drawn_in.items() if when == turn} == {newest, oldest}
        assert 20 <= sum(map(len, pen.prompts)) <= 32
    by_hand = [9, 7, 6, 8, 5, 6, 7, 8, 9]
    assert list(short.drawn_in.values()) == by_hand, "the last drawing of each task"


@pytest.mark.parametrize("selection", ["rainbow", "random"])
def test_an_entry_was_drawn_from_its_own_prompt(selection):
    """Candidates of the first prompt are just like every stored feature, and still do not serve for the
    second prompt's.
    """
    long = LongTerm({"<a>": torch.eye(4)[[0, 0, 0]]}, {"<a>": ["one", "two", "two"]})

    def draw(prompts, seed):
        kinds = torch.tensor([float(p == "two") for p in prompts])
        return kinds[:, None, None, None].expand(-1, 1, 2, 2), torch.eye(4)[kinds.long()]

    short = ShortTerm()
    for turn in range(3):
        short = rebuild(long, short, draw, turn, candidates=3, budget=99, guide=50.0, selection=selection)
        assert short.latents["<a>"][:, 0, 0, 0].tolist() == [0, 1, 1]


def test_old_entries_compete_with_new_candidates():
    stored = LongTerm({"<a>": torch.tensor([[1.0, 0, 0, 0]])}, {"<a>": ["p"]})
    old = ShortTerm(
        {"<a>": torch.full((1, 1, 2, 2), 9.0)}, {"<a>": torch.tensor([[1.0, 0, 0, 0]])}, {"<a>": 0}
    )
    kept = rebuild(stored, old, Pen(), 1, candidates=2, budget=2, guide=50.0)
    assert kept.latents["<a>"].mean() == 9, (
        "nothing can be more like the concept than the entry that is just like it"
    )


def test_random_selection_takes_candidates_of_the_task():
    pen = Pen()
    short = rebuild(LONG, ShortTerm(), pen, turn=1, candidates=5, selection="random", seed=3)
    redrawn = [Pen()(p, 3 + 7919 + 101 * i)[0] for i, p in enumerate(pen.prompts)]
    for token, drawn in zip(LONG.prompts, redrawn):
        assert all(any(torch.equal(entry, other) for other in drawn) for entry in short.latents[token])


@given(st.lists(st.sampled_from(["<a>", "<b>", "<c>"]), min_size=1, max_size=6), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_elastic_weights_stay_positive_with_mean_one(tasks, seed):
    elastic = ElasticWeights(["<a>", "<b>", "<c>"], pace=0.3)
    for i in range(20):
        elastic.update(tasks, torch.rand(len(tasks), generator=torch.Generator().manual_seed(seed + i)))
    assert elastic.weights().min() > 0
    assert elastic.weights().mean().item() == pytest.approx(1, rel=1e-5)


def test_a_concept_that_drifts_is_held_more():
    elastic = ElasticWeights(["<a>", "<b>"])
    for _ in range(50):
        elastic.update(["<a>", "<b>"], torch.tensor([3.0, 1.0]))
    assert elastic.weights().tolist() == pytest.approx([1.5, 0.5])


def test_elastic_weights_are_their_literal_twin():
    """One row a step, as with two mixes: a task that drifts four times as fast is held four times as much."""
    g = torch.Generator().manual_seed(0)
    elastic, met = ElasticWeights(["<a>", "<b>", "<c>"]), {"<a>": [], "<b>": []}
    for _ in range(200):
        task = "<ab>"[1 + int(torch.randint(2, (1,), generator=g))]
        error = {"a": 4.0, "b": 1.0}[task] * (0.5 + float(torch.rand(1, generator=g)))
        elastic.update([f"<{task}>"], torch.tensor([error]))
        met[f"<{task}>"].append(error)
    means = literal_running_means(met, 0.05)
    common = sum(means.values()) / 2
    slow = [means["<a>"] / common, means["<b>"] / common, 1.0]  # <c> was never met
    assert elastic.weights().tolist() == pytest.approx(slow, rel=1e-4)
    fast, steady = elastic.rows(["<a>", "<b>"]).tolist()
    assert fast / steady == pytest.approx(4, rel=0.3)


def test_uniform_weights_stay_as_they_are():
    elastic = ElasticWeights(["<a>", "<b>"], pace=0.0)
    elastic.update(["<a>", "<b>"], torch.tensor([3.0, 1.0]))
    assert elastic.weights().tolist() == [1, 1]


def test_elastic_weights_have_mean_1_also_where_one_is_held_up():
    elastic = ElasticWeights(["<a>", "<b>"])
    elastic.update(["<a>", "<b>"], torch.tensor([1.0, 0.0]))
    assert elastic.weights().tolist() == pytest.approx([2 / 1.025, 0.05 / 1.025])
