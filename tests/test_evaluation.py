"""The score matrix by hand, examinations, and the judge's arithmetic on hand-made cells."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import describe
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from l2dm.bench.multi_judging import judge_concepts, judge_nouns
from l2dm.bench.scorer import Scorer
from l2dm.evaluation import matrix
from l2dm.evaluation.flat import flat, shown
from l2dm.evaluation.report_card import Score, concepts_to_examine, drift, max_forgetting, score
from l2dm.evaluation.shipped_judge import JudgeNet, likeness, pool

NAN = float("nan")
HAND = np.array([[0.9, 0.7, 0.5], [NAN, 0.8, 0.9], [NAN, NAN, 0.6]])


def test_the_figures_of_a_matrix_by_hand():
    assert matrix.average(HAND) == pytest.approx((0.5 + 0.9 + 0.6) / 3)
    assert matrix.just_learned(HAND) == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert matrix.forgetting(HAND) == pytest.approx((0.4 + 0.0) / 2), (
        "the second gained; the last is left out"
    )
    assert matrix.forgetting(np.array([[0.7]])) == 0, "a single concept cannot be forgotten yet"
    assert matrix.backward_transfer(HAND) == pytest.approx((-0.4 + 0.1) / 2)
    assert matrix.kept(HAND) == pytest.approx(2.0 / 2.3)
    assert matrix.curve(HAND) == pytest.approx([0.9, 0.75, 2.0 / 3])


@given(arrays(float, (4, 4), elements=st.floats(0, 1)))
def test_a_matrix_forgets_nothing_where_it_never_falls_and_below_the_diagonal_is_not_read(m):
    assert matrix.forgetting(np.maximum.accumulate(m, axis=1)) == 0
    below = np.where(np.tri(4, k=-1, dtype=bool), NAN, m)
    assert matrix.forgetting(below) == matrix.forgetting(m) >= 0


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.zeros((0, 0)), np.array([[1.0, NAN], [NAN, 1.0]])])
def test_what_is_no_score_matrix_is_refused(bad):
    with pytest.raises(ValueError, match="score matrix"):
        matrix.average(bad)


def test_scores_tell_whose_pictures_are_whose():
    stored = {"<a>": np.eye(4)[:1], "<b>": np.eye(4)[1:2]}
    drawn = np.eye(4)[[0, 0, 1, 0]]
    assert score(drawn, "<a>", stored, 7) == Score(0.75, 0.75, 7)
    assert score(drawn, "<b>", stored, 7) == Score(0.25, 0.25, 7)
    assert drift(drawn, drawn) == 0 and drift(drawn, np.eye(4)[[2, 2, 2, 2]]) == 1


@pytest.mark.parametrize("less", [-1e-7, 0, 1e-7])
def test_a_tie_is_not_for_rounding_to_decide(less):
    """Two concepts of the same photos: which of the two is a hair nearer depends on where numbers lie in
    memory.
    """
    drawn = np.float32([[1, 0]])
    stored = {
        "<a>": np.float32([[0.5, 0]]),
        "<b>": np.float32([[0.5 - less, 0]]),
        "<c>": np.float32([[0.4, 0]]),
    }
    assert [score(drawn, name, stored, 1).own for name in stored] == [1, 1, 0]


DARK, BRIGHT = Image.new("RGB", (8, 8)), Image.linear_gradient("L")


def test_a_picture_of_one_colour_shows_nobody():
    drawn = [DARK, Image.new("RGB", (8, 8), "gray"), BRIGHT]
    assert flat(drawn).tolist() == [True, True, False]
    seen = shown(np.eye(4)[[0, 0, 0]], drawn)
    assert score(seen, "<a>", {"<a>": np.eye(4)[:1]}, 1) == Score(round(1 / 3, 6), round(1 / 3, 6), 1)
    assert shown(torch.tensor([True, True]), [DARK, BRIGHT]).tolist() == [False, True]
    assert drift(seen, np.eye(4)[[0, 0, 0]]) == round(2 / 3, 6), "nothing is left of two"
    assert drift(seen, seen) == 0, "dark before and after: nothing moved"


def test_flat_pictures_count_as_nothing_in_the_benchmarks(tmp_path, untrained):
    class Dark(Scorer):
        def draw(self, world, prompt, seed=0):
            return [DARK, DARK]

    scorer = Dark(describe(tmp_path / "concepts", {"rex": "dog", "tom": "cat"}))
    world = SimpleNamespace(backbone=lambda: SimpleNamespace(features=None))
    for token, noun in (("<rex>", "dog"), ("<tom>", "cat")):
        assert scorer.scores(world, token, noun) == {"identification": 0, "image_alignment": 0}
    dark = scorer.nouns(world, ["<rex>"])
    before = {noun: scorer.own["<rex>"].expand(4, -1) for noun in dark}
    assert scorer.drift(before, dark) == {"prior_drift": 1, "drift_rate": -1}
    assert scorer.drift(dark, dark) == {"prior_drift": 0, "drift_rate": 0}

    rex, tom = scorer.subjects.concepts
    sees_all = SimpleNamespace(
        nouns=["dog", "cat"],
        found=0.5,
        sure=0.9,
        look=lambda images: (
            torch.stack([*scorer.own.values(), *[scorer.own["<rex>"]] * 2]).expand(len(images), -1, -1),
            None,
            torch.ones(len(images), 2),
        ),
    )
    assert judge_nouns(sees_all, [DARK, BRIGHT], (rex, tom)) == [{"success": False}, {"success": True}]
    scorer.judge = sees_all
    assert [v["present"] for v in judge_concepts(scorer, [DARK, BRIGHT], (rex, tom))] == [False, True]


def test_examinations_are_bounded_and_go_round():
    tokens = [f"<{c}>" for c in "abcdef"]
    assert concepts_to_examine(tokens, {}, 2) == ["<f>", "<a>", "<b>"]
    assert concepts_to_examine(tokens, {"<a>": 5, "<b>": 5, "<c>": 4, "<d>": 3, "<e>": 9}, 2) == [
        "<f>",
        "<d>",
        "<c>",
    ]
    assert concepts_to_examine(["<a>"], {}, 3) == ["<a>"]
    before = {"<a>": Score(0.9, 1, 1), "<b>": Score(0.5, 1, 2)}
    assert max_forgetting(
        before, {"<a>": Score(0.8, 1, 3), "<b>": Score(0.6, 1, 3), "<c>": Score(0.1, 1, 3)}
    ) == pytest.approx(10)
    assert max_forgetting({}, {"<a>": Score(0.8, 1, 3)}) == 0


def test_the_judges_pooling_and_likeness_against_loops():
    torch.manual_seed(0)
    cells, saliency = F.normalize(torch.randn(3, 5, 7), dim=-1), torch.randn(3, 5)
    known = F.normalize(torch.randn(2, 7), dim=-1)
    pooled, like = pool(cells, saliency), likeness(cells, known)
    for b in range(3):
        weights = [float(torch.exp(saliency[b, c])) for c in range(5)]
        mean = sum(w / sum(weights) * cells[b, c] for c, w in enumerate(weights))
        assert torch.allclose(pooled[b], mean / mean.norm(), atol=1e-6)
        for p in range(2):
            assert like[b, p].item() == pytest.approx(
                max(float(cells[b, c] @ known[p]) for c in range(5)), abs=1e-6
            )


def test_the_judges_network_sees_a_picture_alone():
    torch.manual_seed(0)
    net, x = JudgeNet(5, 3).eval(), torch.rand(2, 3, 64, 64) * 2 - 1
    cells, saliency, nouns, backgrounds = net(x)
    assert (cells.shape, saliency.shape, nouns.shape, backgrounds.shape) == (
        (2, 64, 96),
        (2, 64),
        (2, 5),
        (2, 3),
    )
    assert torch.allclose(cells.norm(dim=-1), torch.ones(2, 64), atol=1e-5)
    assert torch.allclose(net(x[1:])[0], cells[1:], atol=1e-5), (
        "a picture's verdict does not depend on its neighbours"
    )


@pytest.mark.parametrize(("levels", "one"), [(8, True), (9, False)])
def test_how_far_colours_may_differ_in_a_picture_of_one(levels, one):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0, 1] = levels
    assert flat([Image.fromarray(pixels)]).tolist() == [one]
