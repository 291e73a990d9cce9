"""Cantera as a laboratory: methane in a well-stirred reactor, its operating conditions in, temperature, NO, CO out."""

import torch

try:
    import cantera
except ImportError as error:
    raise ImportError('Cantera is missing: pip install "diffsim-studies[cantera]"') from error
gas = cantera.Solution("gri30.yaml", transport_model=None)


def burn(phi, inlet, seconds, atmospheres):  # -> T [K], NO and CO [ppm of all moles], where it burns steadily
    gas.set_equivalence_ratio(phi, "CH4", "O2:1, N2:3.76")
    gas.TP = inlet, atmospheres * cantera.one_atm
    upstream = cantera.Reservoir(gas, clone=False)
    gas.equilibrate("HP")  # ignited
    reactor, downstream = cantera.IdealGasConstPressureReactor(gas, clone=False), cantera.Reservoir(gas, clone=False)
    flow = [cantera.MassFlowController(*ends) for ends in ((upstream, reactor), (reactor, downstream))]
    for controller in flow:
        controller.mass_flow_rate = lambda t: reactor.mass / seconds
    cantera.ReactorNet([reactor]).solve_steady()
    return [gas.T, *(1e6 * gas["NO", "CO"].X)]


def burner(theta, generator):  # [n, 4]: ratio, inlet [K], log10 seconds, atm -> [n, 3]
    phi, inlet, log_time, atmospheres = theta.T
    z, w = torch.randn(2, len(theta), generator=generator, dtype=theta.dtype)
    rows = zip(phi * (1 + 0.04 * z), inlet + 10 * w, 10**log_time, atmospheres, strict=True)
    return torch.tensor([burn(*map(float, row)) for row in rows], dtype=theta.dtype)
