"""A measured pendulum, learned by a neural field and by a Hamiltonian one: `python real_pendulum.py real_pend_h_1.txt`.

Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, task 3; record of Schmidt and Lipson, 2009.
"""

import sys

from diffsim import Pendulum, Solver, energy_error, simulate
from diffsim.data import load_schmidt_lipson, schmidt_lipson_stand_in
from diffsim.fields import HamiltonianField, NeuralField, mlp
from diffsim.training import DerivativeLoss, Training, fit


def main(path=None, steps=2000):
    record = load_schmidt_lipson(path) if path else schmidt_lipson_stand_in(seed=0)
    print(f"Record: {path or 'none given; this is a synthetic stand-in, not a measurement'}")
    train, test = record.derivatives("forward").split_time(0.8)
    training = Training(steps=steps, lr=1e-3, batch="all", weight_decay=1e-5, schedule="constant")
    system = Pendulum(mass=0.5, length=1.0, gravity=4.8)  # the paper's energy of this record: 2.4 (1 - cos q) + p^2
    print("field             derivative loss: train      test      mean squared energy error of the test run")
    for field in (NeuralField(mlp(2, 2)), HamiltonianField(mlp(2, 1))):
        fit(field, train, training=training)
        field.double()
        losses = [DerivativeLoss()(field, part, Solver()).item() for part in (train, test)]
        error = float(energy_error(system, simulate(field, test.y0, test.t), test).mean())
        print(f"{type(field).__name__:<28} {losses[0]:10.2e} {losses[1]:10.2e} {error:12.2e}")


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else None)
