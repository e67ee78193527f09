"""The base's training loop: a run that was taken up is the run that was never stopped, and one bad step harms
nothing.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from mini_base import averages, muon, training
from mini_base.training import Training, side_by_side


def trained(folder, steps: int) -> Training:
    """Up to step ``steps`` of four, from whatever ``folder`` holds."""
    torch.manual_seed(0)
    run = Training(folder, torch.nn.Linear(3, 1), lr=0.1, total=4, warmup=2)
    while run.step < steps:
        run.update(run.module(torch.full((2, 3), 1.0 + run.step)).square().mean(), 2)
    run.save()
    return run


def test_taken_up_is_never_stopped(tmp_path):
    whole = trained(tmp_path / "whole", 4)
    trained(tmp_path / "parts", 2)
    parts = trained(tmp_path / "parts", 4)
    for name, weight in whole.named.items():
        assert torch.equal(weight, parts.named[name]) and torch.equal(
            whole.average[name], parts.average[name]
        )
    assert parts.pictures == whole.pictures == 8
    assert [path.name for path in (tmp_path / "parts").glob("*.safetensors")] == ["state-4.safetensors"]


def test_gradients_that_are_not_finite_are_left_out(tmp_path, capsys):
    run = trained(tmp_path, 2)
    before = {name: weight.detach().clone() for name, weight in run.named.items()}
    run.update(run.module(torch.tensor([[1.0, float("nan"), 1.0]])).sum(), 1)
    assert all(torch.equal(weight, before[name]) for name, weight in run.named.items()) and run.step == 3
    assert "not finite" in capsys.readouterr().out


class Net(torch.nn.Module):
    """Of everything that the optimizers tell apart: an embedding, a way in, a hidden convolution and a hidden
    linear layer.
    """

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(5, 6)
        self.conv_in, self.conv = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 6, 3, padding=1)
        self.linear = torch.nn.Linear(6, 4)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(self.conv_in(x).relu()).mean((2, 3)) + self.words(ids)).square().mean()


def turned(folder, steps: int, total: int = 24, leader: bool = True, workers: int = 1) -> Training:
    """Up to step ``steps`` with Muon and power averages; side by side each process gives its own share of the
    gradient.
    """
    torch.manual_seed(0)
    run = Training(folder, Net(), lr=0.02, total=total, warmup=2, decay=None, leader=leader, muon=0.02)
    forward = training.averaging(run.module, workers) if workers > 1 else run.module
    while run.step < steps:
        generator = torch.Generator().manual_seed(run.step)
        x, ids = torch.randn(4, 3, 5, 5, generator=generator), torch.randint(5, (4,), generator=generator)
        run.update(forward(x, ids), 4)
    run.save()
    return run


def test_muon_and_power_averages_taken_up_are_never_stopped(tmp_path):
    turned(tmp_path / "whole", 24)
    for steps in (5, 13, 24):
        turned(tmp_path / "parts", steps)
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors")}
    assert files == {
        path.relative_to(tmp_path / "parts") for path in (tmp_path / "parts").rglob("*.safetensors")
    }
    assert len(files) == 7, "a state, and a snapshot every fourth step"
    for file in files:
        whole, parts = load_file(tmp_path / "whole" / file), load_file(tmp_path / "parts" / file)
        assert whole.keys() == parts.keys()
        assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items()), file


def test_muon_is_for_hidden_matrices_alone():
    assert set(muon.hidden(Net())) == {"conv.weight", "linear.weight"}


def test_muon_turns_convolutions_as_matrices_whichever_way_they_lie():
    torch.manual_seed(0)
    weight, grad, moved = torch.randn(6, 8, 3, 3), torch.randn(6, 8, 3, 3), []
    for layout in (torch.contiguous_format, torch.channels_last):
        p = torch.nn.Parameter(weight.clone().contiguous(memory_format=layout))
        p.grad = grad.clone()
        one = muon.Muon({"conv": p}, lr=0.1, weight_decay=0.0)
        one.step()
        moved.append(p.detach() - weight)
    assert torch.allclose(*moved, atol=2e-3)
    singular = torch.linalg.svdvals(moved[0].flatten(1))
    assert singular.min() > 0.6 * singular.max(), "a step is about orthogonal"
    assert moved[0].square().mean().sqrt() == pytest.approx(0.2 * 0.1, rel=0.15), (
        "and as long as one of AdamW's"
    )


def test_muons_work_is_shared_out_evenly():
    owner = muon.share_out({"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.0}, 2)
    assert owner == {"a": 0, "b": 1, "c": 1, "d": 0}


def test_a_state_of_another_recipe_is_refused(tmp_path):
    torch.manual_seed(0)
    Training(tmp_path, Net(), lr=0.02, total=4).save()
    with pytest.raises(SystemExit, match="another architecture or recipe"):
        turned(tmp_path, 1)


def test_a_power_average_of_any_length_is_the_mean_under_its_profile(tmp_path):
    weight = torch.nn.Parameter(torch.zeros(50))
    kept, walk = averages.PowerAverages({"w": weight}, tmp_path, 640), []
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 641):
        with torch.no_grad():
            weight += torch.randn(50, generator=generator)
        walk.append(weight.detach().clone())
        kept.update(step)
    assert len(list(tmp_path.iterdir())) == 16
    for length, off in ((0.05, 1e-3), (0.1, 1e-3), (0.07, 0.05), (0.03, 0.2), (0.15, 0.05)):
        gamma, after = averages.exponent(length), torch.arange(4, 641, 4)
        shares = (after / 640) ** (gamma + 1) - ((after - 4) / 640) ** (gamma + 1)
        times = after / 640
        assert (shares * (times - (shares * times).sum()) ** 2).sum().sqrt() == pytest.approx(
            length, rel=0.05
        )
        mean = sum(share * walk[step - 1] for share, step in zip(shares, after.tolist()))
        spread = torch.stack(walk).std(0).mean()
        assert (kept.at(640, length)["w"] - mean).abs().mean() < off * spread, length


def _beside(rank: int, workers: int, folder) -> None:
    turned(folder, 8, total=8, leader=rank == 0, workers=workers)


@pytest.mark.slow
def test_processes_that_share_the_matrices_train_as_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(training.os, "cpu_count", lambda: 2)
    turned(tmp_path / "one", 8, total=8)
    side_by_side(_beside, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "state-8.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=1e-3), name


def test_a_training_whose_minutes_are_over_is_kept_and_taken_up(tmp_path, monkeypatch):
    torch.manual_seed(0)
    runs = [
        Training(tmp_path, torch.nn.Linear(3, 1), lr=0.1, total=150, minutes=minutes)
        for minutes in (0.0, None)
    ]
    for run, last in zip(runs, (100, 150)):
        if last == 150:
            run._load()
        while not run.done:
            run.update(run.module(torch.ones(2, 3)).square().mean(), 2)
        assert run.step == last and (tmp_path / f"state-{last}.safetensors").exists()
