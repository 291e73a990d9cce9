"""Manifolds: designs of a box that a projection leaves where they are, such as those of equal total momentum."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import check_theta
from studies.spaces.box import Box
from studies.spaces.constraints import function_name
from studies.spaces.uniform import take, uniform_blocks, violation

__all__ = ["Manifold"]

_TUBE = 0.05  # in widths of the box: draws from so near are projected
_TOLERANCE = 1e-6
_ALTERNATIONS = 50


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Manifold:
    """The points of a box that a projection does not move.

    Draws are those of a thin tube about the manifold, projected: for a projection to the nearest point they are uniform
    in its area, measured in widths of the box.

    Args:
        box: Bounds of the designs; constraints of the box hold too.
        project: Maps theta, shape [n, d], to points of the manifold, shape [n, d], near it where possible; a point of
            the manifold stays. Strategies that climb do not differentiate it.

    Raises:
        ArgumentError: The projection returns another shape, or moves what it has projected.
        ArgumentTypeError: The projection is no function, or the box is none.

    Example:
        >>> from studies.spaces.box import Box
        >>> pair = Box({"first": (-1, 1), "second": (-1, 1)}, units={"first": "kg m/s", "second": "kg m/s"})
        >>> at_rest = Manifold(pair, lambda p: p - p.mean(-1, keepdim=True))
        >>> at_rest.round(torch.tensor([[0.5, 0.3]]))
        tensor([[ 0.1000, -0.1000]], dtype=torch.float64)
        >>> at_rest.contains(torch.tensor([[0.3, -0.3], [0.3, 0.3]]))
        tensor([ True, False])
    """

    box: Box
    project: Callable[[Tensor], Tensor]

    def __init__(self, box: Box, project: Callable[[Tensor], Tensor]) -> None:
        if not isinstance(box, Box):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"`box` must be a Box, got {box!r}. Pass Box({{'q': (-2, 2), 'p': (-2, 2)}}).")
        if isinstance(project, type) or not callable(project):
            raise ArgumentTypeError(f"`project` must be a function of theta, got {project!r}.")
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "project", project)
        probes = torch.quasirandom.SobolEngine(box.dim, scramble=True, seed=0).draw(64, dtype=torch.float64)
        once = self._project(box.from_unit(probes))
        if not bool((self._distance(once, self._project(once)) <= _TOLERANCE).all()):
            raise ArgumentError("`project` must not move what it has projected. Make it finite and idempotent.")

    def __repr__(self) -> str:
        return f"Manifold({self.box!r}, {function_name(self.project)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the order of the columns of theta."""
        return self.box.names

    @property
    def dim(self) -> int:
        """The number of parameters, d; the manifold's own dimension is smaller."""
        return self.box.dim

    @property
    def bounds(self) -> Tensor:
        """Bounds of the box, float64, shape [2, d]."""
        return self.box.bounds

    def contains(self, theta: Tensor) -> Tensor:
        """Which rows lie in the box and on the manifold, shape [n, d] -> [n], bool."""
        inside, theta = self.box.contains(theta), theta.detach().double()
        return inside & (self._distance(theta, self._project(theta)) <= _TOLERANCE)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws of a thin tube about the manifold, projected, float64, shape [n, d].

        Raises:
            ArgumentError: No point of the manifold was found in the box.
        """
        return take(self._blocks(generator), n)

    def round(self, theta: Tensor) -> Tensor:
        """Rows projected, shape [n, d] -> [n, d]; rows of the manifold stay.

        Where the projection leaves the box, box and manifold are projected to in turn; a row for which that does not
        end becomes the nearest of 256 draws.
        """
        theta = self.box.round(theta)
        moved = torch.where(self.contains(theta)[:, None], theta, self._project(theta))
        for _ in range(_ALTERNATIONS):
            lost = ~self.contains(moved) & moved.isfinite().all(1)
            if not lost.any():
                break
            moved[lost] = self._project(self.box.round(moved[lost]))
        lost = ~self.contains(moved)
        if lost.any():
            draws = self.sample(256, torch.Generator().manual_seed(0))
            nearest = torch.cdist(self.box.features(theta[lost]), self.box.features(draws)).argmin(1)
            moved[lost] = draws[nearest]
        return moved

    def to_dict(self, row: Tensor) -> dict[str, float | int | str]:
        """One row of theta by name, shape [d]."""
        return self.box.to_dict(row)

    def describe(self) -> dict[str, Any]:
        """The manifold as a JSON mapping: the projection by its name alone."""
        return {**self.box.describe(), "kind": "Manifold", "project": function_name(self.project)}

    def _project(self, theta: Tensor) -> Tensor:
        with torch.no_grad():
            projected = cast(object, self.project(check_theta(theta, self.dim)))
        if not isinstance(projected, Tensor) or projected.shape != theta.shape:
            got = list(projected.shape) if isinstance(projected, Tensor) else repr(projected)
            raise ArgumentError(f"`project` must map {list(theta.shape)} to the same shape, got {got}.")
        return projected.double()

    def _distance(self, theta: Tensor, other: Tensor) -> Tensor:
        """In widths of the box, [n, d], [n, d] -> [n]; infinite where there is none."""
        return (self.box.to_unit(theta) - self.box.to_unit(other)).norm(dim=1).nan_to_num(torch.inf)

    def _blocks(self, generator: torch.Generator) -> Iterator[Tensor]:
        def slack(unit: Tensor) -> Tensor:
            theta = self.box.from_unit(unit)
            projected = self._project(theta)
            inside = self.box.from_scale(self.box.to_scale(projected))
            sides = torch.stack([_TUBE - self._distance(theta, projected), -self._distance(inside, projected)], dim=1)
            return torch.cat([sides, self.box.slack(projected)], dim=1)

        for unit in uniform_blocks(violation(slack, self.dim), self.dim, generator):
            theta = self._project(self.box.from_unit(unit))
            yield theta[self.contains(theta)]
