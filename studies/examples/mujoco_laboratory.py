"""MuJoCo as a laboratory: initial states (q, p) in, runs of (q, p) out, with canonical momenta p = M(q) dq/dt."""

import numpy as np
import torch

try:
    import mujoco
except ImportError as error:
    raise ImportError('MuJoCo is missing: pip install "diffsim-studies[mujoco]"') from error


def laboratory(xml, t):  # t: evenly spaced times; their spacing is a multiple of the model's timestep
    model = mujoco.MjModel.from_xml_string(xml)
    data, n_steps = mujoco.MjData(model), round(float(t[1] - t[0]) / model.opt.timestep)

    def state():
        mujoco.mj_forward(model, data)  # the mass matrix at this position
        mujoco.mj_mulM(model, data, p := np.empty(model.nv), data.qvel)
        return torch.as_tensor(np.concatenate([data.qpos, p]))

    def run(y0):
        mujoco.mj_resetData(model, data)
        data.qpos = y0[: model.nv]
        mujoco.mj_forward(model, data)
        mujoco.mj_solveM(model, data, data.qvel[None], y0[None, model.nv :])  # dq/dt = M^-1 p
        later = ((mujoco.mj_step(model, data, n_steps), state())[1] for _ in t[1:])
        return torch.stack([state(), *later])

    return lambda y0, generator: torch.stack([run(row) for row in y0.numpy()])  # [n, 2k] -> [n, T, 2k]
