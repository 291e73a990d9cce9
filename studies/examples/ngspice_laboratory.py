"""ngspice as a laboratory: designs (W, L [um], R_L [kOhm], I [uA]) of a differential pair in, measurements out."""

import re
from shutil import which
from subprocess import run

import torch

if not which("ngspice"):
    raise ImportError("The program ngspice is missing. Debian has it: apt-get install ngspice")
NETLIST = """differential pair of level-1 MOSFETs: 1.8 V, driven through 5 kOhm, loaded with 300 fF, fed by a mirror
V1 d 0 1.8\nV2 c 0 1\nV3 e c 0 ac .5\nV4 f c 0 ac -.5\nR3 e g 5k\nR4 f h 5k\nI1 d m {3}u\nM3 m m 0 0 T W=200u L=1u
M4 s m 0 0 T W=200u L=1u\nM1 a g s s A W={0}u L={1}u\nM2 b h s s B W={0}u L={1}u\nR1 d a {{1e3*{2}*{8}}}
R2 d b {{1e3*{2}*{9}}}\nC1 a 0 300f\nC2 b 0 300f\n.model T nmos vto=.45 kp=300u lambda=.1
.model A nmos vto={{.45*{4}}} kp={{3e-4*{6}}} lambda={{.1/{1}}} tox=4n cgso=.3n cgdo=.3n
.model B nmos vto={{.45*{5}}} kp={{3e-4*{7}}} lambda={{.1/{1}}} tox=4n cgso=.3n cgdo=.3n\n.control\nset numdgt=9
ac dec 10 10k 1T\nlet r=db(v(a,b))\nlet y1=r[0]\nlet r=r-y1+3.01\nprint y1\nmeas ac y2 when r=0 fall=1\nop
let y3=1e3*(v(a)-v(b))\nlet y4=-1.8e3*V1#branch\nlet y5=1e3*(@M1[vgs]-@M1[von])\nprint y3 y4 y5\nquit\n.endc"""


def pair(theta, generator):  # [n, 4] -> [n, 5]: dB, Hz of bandwidth, mV between the outputs, mW, mV of overdrive
    parts = 1 + torch.tensor([1 / 45, 1 / 45, 0.05, 0.05, 0.03, 0.03]) * torch.randn(len(theta), 6, generator=generator)
    return [measure(*row) for row in torch.cat([theta, parts], dim=1).tolist()]


def measure(*values):
    job = run(["ngspice", "-b", "-n"], input=NETLIST.format(*values), capture_output=True, text=True, timeout=10)
    if len(found := re.findall(r"^y\d += +(\S+)", job.stdout, re.MULTILINE)) != 5:
        raise RuntimeError(f"ngspice failed at {values}: {job.stderr[-500:]}")
    return [float(number) for number in found]
