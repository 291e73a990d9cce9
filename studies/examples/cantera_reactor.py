"""A lean methane burner in Cantera, a well-stirred reactor: little NO and CO, at no less than 1750 K."""

from torch import sigmoid

from studies import Box, LocalDescent, Study, measured
from studies.examples.cantera_laboratory import burner

BOX = Box(
    {"ratio": (0.45, 0.75), "inlet": (500, 800), "log10 time": (-3, -2), "pressure": (5, 20)},
    units={"inlet": "K", "log10 time": "log10 s", "pressure": "atm"},
)


def objective(y):
    temperature, no, co = y.unbind(-1)
    return no / 10 + (1 + co / 100).log() + 2 * sigmoid((1750 - temperature) / 25)


def main(trials=200, seed=0):
    study = Study(BOX, LocalDescent(objective=objective), seed=seed)
    study.run(burner, trials=trials)
    best, value = study.recommend(), measured(burner, objective, n=trials)
    print(f"start {value(BOX.bounds.mean(0)):.2f}, after {trials} runs {value(best):.2f} at {BOX.to_dict(best)}")


if __name__ == "__main__":
    main()
