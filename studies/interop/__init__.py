"""Bridges to other programs: gest-api hosts such as Xopt and libEnsemble, and Optuna."""
