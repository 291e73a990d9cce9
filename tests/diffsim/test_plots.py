"""Plots: what is drawn, and that every axis has its label with a unit."""

import matplotlib.pyplot as plt
import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.plots import energy_over_time, learning_curve, phase_portrait, trajectories
from diffsim.systems import MassSpring

T = torch.linspace(0, 6, 31)
RUN = Trajectory(
    T,
    torch.stack([T.cos(), -T.sin()], dim=-1)[:, None].repeat(1, 3, 1),
    names=("q", "p"),
    units=("m", "kg m/s"),
    time_unit="s",
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_phase_portrait():
    ax = phase_portrait(RUN, RUN)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("q [m]", "p [kg m/s]")
    assert len(ax.lines) == 6 and {line.get_linestyle() for line in ax.lines} == {"-", "--"}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["prediction", "truth"]
    assert ax.lines[0].get_ydata() == pytest.approx(RUN.y[:, 0, 1].numpy())
    ax.figure.canvas.draw()


def test_labels_come_from_arguments_too():
    bare = Trajectory(T, RUN.y)
    ax = phase_portrait(bare, names=("angle", "spin"), units=("rad", "rad/s"))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("angle [rad]", "spin [rad/s]")
    assert ax.get_legend() is None
    ax = trajectories(bare, component=1, time_unit="ms")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("t [ms]", "y[1]")


def test_trajectories_and_energy_draw_where_they_are_told():
    _, (left, right) = plt.subplots(1, 2)
    assert trajectories(RUN, RUN, ax=left) is left
    assert (left.get_xlabel(), left.get_ylabel(), len(left.lines)) == ("t [s]", "q [m]", 6)
    assert energy_over_time(MassSpring(), RUN, RUN, unit="J", ax=right) is right
    assert (right.get_xlabel(), right.get_ylabel()) == ("t [s]", "energy [J]")
    assert right.lines[0].get_ydata() == pytest.approx(0.5)


def test_learning_curve_shows_median_and_quartiles():
    errors = torch.tensor([[4.0, 1.0], [8.0, 2.0], [16.0, 3.0], [torch.nan, 4.0], [torch.nan, 5.0]])
    ax = learning_curve([1, 2], {"random": errors, "active": errors / 2}, error_label="error [m]", level=0.1)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("simulator runs", "error [m]", "log")
    assert ax.lines[0].get_ydata().tolist() == [8.0, 3.0]
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 2.0 and band[:, 1].max() == 12.0
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["random", "active"]


def test_refused():
    with pytest.raises(ArgumentError, match=r"0 \.\.\. 1, got"):
        trajectories(RUN, component=2)
    with pytest.raises(ArgumentError, match="`names`"):
        phase_portrait(RUN, names=("q",))
    with pytest.raises(ArgumentError, match=r"shape \[repetitions, 2\]"):
        learning_curve([1, 2], {"random": torch.ones(3)})
    with pytest.raises(ArgumentError, match="at least one method"):
        learning_curve([1, 2], {})
    for plot in (phase_portrait, trajectories):
        with pytest.raises(ArgumentError, match="`truth` must have the 2 components of `run`, got 1"):
            plot(RUN, Trajectory(RUN.t, RUN.y[..., :1]))


def test_a_learning_curve_of_zeros_is_drawn_without_a_logarithm():
    assert learning_curve([1, 2], {"exact": torch.zeros(3, 2)}).get_yscale() == "linear"
