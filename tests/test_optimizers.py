"""The shared optimisers: one step of each by hand, and the backbone's share of the rate."""

import math

import pytest
import torch
from torch import nn

from maskdistill.training.optimizers import backbone_groups, build_optimizer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].requires_grad_(False)
    return model


def test_groups_hold_every_trainable_parameter_once() -> None:
    model = network()
    backbone, rest = backbone_groups(model, model[0], 0.1, 0.25)
    assert backbone == {"params": [*model[0].parameters()], "weight_decay": 0.1, "lr_scale": 0.25}
    assert rest == {"params": [*model[2].parameters()], "weight_decay": 0.1, "lr_scale": 1.0}
    model[0].requires_grad_(False)
    assert [group["params"] for group in backbone_groups(model, model[0], 0.1, 0.25)] == [
        [*model[2].parameters()]
    ]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_two_steps_by_hand(name: str) -> None:
    parameter = nn.Parameter(torch.tensor(2.0))
    optimizer = build_optimizer([{"params": [parameter], "weight_decay": 0.1}], name, 0.5, 0.9)  # type: ignore[arg-type]
    value, speed, first, second = 2.0, 0.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0), 1):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        if name == "sgd":
            speed = 0.9 * speed + gradient + 0.1 * value
            value -= 0.5 * speed
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            value -= 0.5 * 0.1 * value
            value -= 0.5 * first / (1 - 0.9**step) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        assert parameter.item() == pytest.approx(value, rel=1e-5)
