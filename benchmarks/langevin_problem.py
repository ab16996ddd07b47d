"""The problem of :mod:`langevin_steps`: the paper's network, at a step size safely below the stable
one."""

INPUT_DIM, DEGREE, WIDTH, KAPPA, STEP_SIZE = 35, 4, 512, 0.005, 1e-6
