"""A pendulum and a double pendulum in MuJoCo, learned from few runs: a study chooses their initial states (q, p)."""

from torch import float64, linspace, pi

from diffsim import GaussianProcessHamiltonian, fit_runs, rmse, simulate, valid_prediction_time
from studies import Box, ErrorReduction, ModelBased, Random, Study
from studies.examples.mujoco_laboratory import DOUBLE_PENDULUM, PENDULUM, laboratory
from surrogates import RolloutPosterior

t, units = linspace(0, 2, 21, dtype=float64), {"q": "rad", "p": "kg m^2/s"}  # s


def main(bodies, widths, batch, rounds=4, **prior):
    box = Box({x: (-width, width) for x, width in widths.items()}, units={x: units[x[0]] for x in widths})
    fresh = Study(box, Random(), seed=1).run(experiment := laboratory(bodies, t), trials=100).runs(t)

    def learn(history):
        fit_runs(field := GaussianProcessHamiltonian(box.dim, **prior), history.runs(t), step=0.05)
        return RolloutPosterior(field, t)

    for strategy in (ModelBased(learn, ErrorReduction(), start=batch, candidates=64, climb=0), Random()):
        history = Study(box, strategy).run(experiment, rounds=rounds, batch=batch)
        run, spread = simulate(learn(history).field, fresh.y0, t), fresh.y.std(dim=(0, 1))
        error, valid = rmse(run.y / spread, fresh.y / spread), valid_prediction_time(run, fresh).mean()
        print(f"{type(strategy).__name__:>10}: {len(history)} runs, error/spread {error:.1e}, valid {valid:.2f} of 2 s")


if __name__ == "__main__":
    main(PENDULUM, {"q": 3, "p": 3}, batch=2, n_features=128, periods=[2 * pi, None], scale=[1, 3])
    main(DOUBLE_PENDULUM, {"q1": 0.6, "q2": 0.6, "p1": 1.2, "p2": 0.4}, batch=4, n_features=400, scale=[2, 1, 6, 3])
