"""A differential pair in ngspice: 20 dB, 50 MHz and 5 mV of offset under mismatch, for little power."""

from torch.nn.functional import softplus

from studies import Box, LocalDescent, Study, measured
from studies.examples.ngspice_laboratory import pair

UNITS = {"W": "um", "L": "um", "R_L": "kOhm", "I": "uA"}
BOX = Box({"W": (2, 60), "L": (0.18, 2), "R_L": (2, 60), "I": (10, 300)}, units=UNITS)


def objective(y):  # violations, and power in units of 0.2 mW; the level-1 model knows no weak inversion: a penalty
    gain, bandwidth, offset, power, overdrive = y.unbind(-1)
    at_input = offset.abs() / 10 ** (gain / 20)  # mV
    violation = softplus(20 - gain) + softplus((5e7 - bandwidth) / 5e6) + softplus((at_input - 5) / 5)
    return violation + power / 0.2 + softplus((120 - overdrive) / 10)


def main(trials=200, seed=0):
    study = Study(BOX, LocalDescent(objective=objective), seed=seed)
    study.run(pair, trials=trials)
    best, value = study.recommend(), measured(pair, objective, n=trials)
    print(f"start {value(BOX.bounds.mean(0)):.2f}, after {trials} runs {value(best):.2f} at {BOX.to_dict(best)}")


if __name__ == "__main__":
    main()
