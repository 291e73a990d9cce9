"""MuJoCo as a laboratory: initial states (q, p) in, runs of (q, p) out, with canonical momenta p = M(q) dq/dt."""

import numpy as np
import torch

try:
    import mujoco
except ImportError as error:
    raise ImportError('MuJoCo is missing: pip install "diffsim-studies[mujoco]"') from error
WORLD = '<mujoco><option integrator="RK4"><flag contact="disable"/></option><worldbody>{}</worldbody></mujoco>'
ROD = '<body pos="0 0 -1"><joint axis="0 1 0"/><geom type="box" fromto="0 0 0 0 0 -1" size=".03" mass="1"/>{}</body>'
PENDULUM, DOUBLE_PENDULUM = ROD.format(""), ROD.format(ROD.format(""))  # q2 is the angle between the rods


def laboratory(bodies, t, n_steps=50):  # t: evenly spaced times [T]; n_steps: MuJoCo's steps from one to the next
    model = mujoco.MjModel.from_xml_string(WORLD.format(bodies))
    model.opt.timestep = (t[1] - t[0]) / n_steps

    def state(data):
        mujoco.mj_forward(model, data)  # the mass matrix at this position
        mujoco.mj_mulM(model, data, p := np.empty(model.nv), data.qvel)
        return torch.as_tensor(np.concatenate([data.qpos, p]))

    def run(y0):
        (data := mujoco.MjData(model)).qpos = y0[: model.nv]
        mujoco.mj_forward(model, data)
        mujoco.mj_solveM(model, data, data.qvel[None], y0[None, model.nv :])  # dq/dt = M^-1 p
        return torch.stack([state(data), *((mujoco.mj_step(model, data, n_steps), state(data))[1] for _ in t[1:])])

    return lambda y0, generator: torch.stack([run(row) for row in y0.numpy()])  # [n, 2k] -> [n, T, 2k]
