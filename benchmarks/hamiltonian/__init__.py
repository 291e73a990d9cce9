"""The table of the Hamiltonian neural network paper: tasks, models, judgement and report."""
