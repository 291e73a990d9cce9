"""Real hosts of gest-api that run our strategies: Xopt 3, and libEnsemble in a process of its own."""

import json
import subprocess
import sys
import textwrap

import pytest
from gest_api.vocs import VOCS

from studies.interop.gest import Generator
from studies.strategies.constrained import ConstrainedImprovement
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.random import Random

xopt = pytest.importorskip("xopt")
VALLEY = VOCS(variables={"a": [-1, 2], "b": [0, 1]}, objectives={"f": "MINIMIZE"}, constants={"shift": 0.5})


def valley(point):
    return {"f": (point["a"] - point["shift"]) ** 2 + point["b"] ** 2}


def lame(point):
    if point["b"] < 0.5:
        raise RuntimeError("the mesh is torn")
    return valley(point)


def test_xopt_optimises_with_a_strategy_of_ours():
    generator = Generator(VALLEY, NoisyExpectedImprovement(initial=4))
    host = xopt.Xopt(generator=generator, evaluator=xopt.Evaluator(function=valley))
    host.random_evaluate(3, seed=0)  # points that were not suggested
    for _ in range(9):
        host.step()
    history = generator.study.history
    assert len(history.trials) == 12 and len(history.pending) == len(history.failed) == 0
    assert history.theta.tolist() == host.data[["a", "b"]].to_numpy().tolist()
    assert history.outcome.flatten().tolist() == host.data["f"].tolist()
    best = generator.recommend()
    assert valley(best)["f"] < 0.01 and best["shift"] == 0.5


def test_constraints_of_the_host_reach_the_strategy():
    vocs = VOCS(variables={"a": [-1, 2]}, objectives={"f": "MAXIMIZE"}, constraints={"c": ["LESS_THAN", 1.0]})
    strategy = ConstrainedImprovement(objective=lambda y: y[:, 0], constraints=[lambda y: y[:, 1]], initial=4)
    evaluator = xopt.Evaluator(function=lambda point: {"f": point["a"], "c": point["a"] ** 2})
    host = xopt.Xopt(generator=Generator(vocs, strategy), evaluator=evaluator)
    for _ in range(9):
        host.step()
    assert 0.9 < host.generator.recommend()["a"] <= 1.001  # the largest a with a**2 at most 1


def test_xopt_asks_for_as_many_points_as_it_has_workers_and_stops_by_its_own_rule():
    generator = Generator(VALLEY, Random())
    stop = xopt.stopping_conditions.MaxEvaluationsCondition(max_evaluations=8)
    evaluator = xopt.Evaluator(function=valley, max_workers=4)
    xopt.Xopt(generator=generator, evaluator=evaluator, stopping_condition=stop).run()
    assert generator.study.history.round.tolist() == [0] * 4 + [1] * 4


def test_evaluations_that_fail_in_xopt_are_failed_trials_with_its_traceback():
    generator = Generator(VALLEY, Random())
    host = xopt.Xopt(generator=generator, evaluator=xopt.Evaluator(function=lame, max_workers=4), strict=False)
    host.step()
    host.step()
    trials = generator.study.history.trials
    assert [trial.state for trial in trials] == ["failed" if error else "complete" for error in host.data["xopt_error"]]
    failed = [trial for trial in trials if trial.state == "failed"]
    assert failed and all("the mesh is torn" in trial.error and "Traceback" in trial.error for trial in failed)


def test_xopt_writes_down_what_it_runs():
    host = xopt.Xopt(generator=Generator(VALLEY, Random()), evaluator=xopt.Evaluator(function=valley))
    host.step()
    assert "Data size: 1" in str(host)


def test_libensemble_optimises_with_a_strategy_of_ours(tmp_path):
    pytest.importorskip("libensemble")
    script = tmp_path / "ensemble.py"
    script.write_text(textwrap.dedent(ENSEMBLE))
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["states"] == ["complete"] * len(found["states"]) and len(found["states"]) == 15
    assert found["rounds"][:5] == [0, 0, 0, 1, 1]  # three past trials, then two at a time
    assert sorted(found["told"]) == sorted(found["theirs"] + found["past"])
    assert found["best"] < 0.05


ENSEMBLE = """
    import json
    from gest_api.vocs import VOCS
    from libensemble import Ensemble
    from libensemble.alloc_funcs.start_only_persistent import only_persistent_gens
    from libensemble.specs import AllocSpecs, ExitCriteria, GenSpecs, LibeSpecs, SimSpecs
    from studies.interop.gest import Generator
    from studies.strategies.noisy_improvement import NoisyExpectedImprovement

    VALLEY = VOCS(variables={"a": [-1, 2], "b": [0, 1]}, objectives={"f": "MINIMIZE"}, constants={"shift": 0.5})

    def valley(point):
        return {"f": (point["a"] - point["shift"]) ** 2 + point["b"] ** 2}

    if __name__ == "__main__":
        generator = Generator(VALLEY, NoisyExpectedImprovement(initial=4))
        past = [{"a": a, "b": 1.0, "shift": 0.5} for a in (-1.0, 0.0, 1.0)]
        past = [point | valley(point) for point in past]
        generator.ingest(past)
        ensemble = Ensemble(
            libE_specs=LibeSpecs(gen_on_manager=True, nworkers=2, final_gen_send=True),
            sim_specs=SimSpecs(simulator=valley, vocs=VALLEY),
            gen_specs=GenSpecs(generator=generator, vocs=VALLEY, batch_size=2),
            alloc_specs=AllocSpecs(alloc_f=only_persistent_gens),
            exit_criteria=ExitCriteria(sim_max=12),
        )
        rows, _, _ = ensemble.run()
        history = generator.study.history
        print()
        print(json.dumps({
            "states": [trial.state for trial in history.trials],
            "rounds": [trial.round for trial in history.trials],
            "told": history.outcome.flatten().tolist(),
            "theirs": rows["f"][rows["sim_ended"]].tolist(),
            "past": [point["f"] for point in past],
            "best": valley(generator.recommend())["f"],
        }))
"""
