"""Codes that err least in a layer's output at 8, 6 and 4 bits together, chosen with its activations.

`planes.encode` rounds every value on its own. Here the error of one column is made good in columns that come later, as
in GPTQ (Frantar et al., arXiv 2210.17323), for the error of a layer's output on activations x is ``e^T H e`` with
``H = sum of x x^T`` and e the error of a row. All widths read leading bits of one code, so that a code has to serve all
of them (MatGPTQ, arXiv 2602.03537, weighs widths likewise):

    E(u)  =  sum over widths b of  importance_b / 4^(8-b) * e_b^T H e_b

with e_b the error at width b: importance counts in squared steps of a width. Each width has targets of its own, which
its own errors move; a code is the one of 256 that lies best to the targets of all widths. Sweeps of coordinate descent
on E follow, since the targets of a width know nothing of what other widths will ask for later.

A code that moves to another cell of 4 bits to make up for other columns takes its 8-bit reading with it to the border
of that cell. So 4 bits alone win most and ruin 8 bits; importance says where to stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from tadp.kernels.formats import CODE_BITS, FORMATS
from tadp.kernels.planes import encode, group_of_columns

IMPORTANCE: Mapping[int, float] = {8: 0.1, 6: 0.3, 4: 1.0}
"""On the embedded model's layers 8 bits then stay about where `encode` has them, and 6 and 4 bits gain most of what
they can; bench/kernels/compensation.py has the trade-off.
"""

_DAMPING = 0.03
"""Of the mean of H's diagonal, added to it. Less fits 8 bits to the activations that were seen: they lose a decibel on
others at 0.01, where 4 bits win a tenth.
"""

_SWEEPS = 2
"""Of coordinate descent; four more win 0.1 to 0.3 dB at 8 bits and 0.05 at 4."""

_COLUMNS_AT_ONCE = 128
"""Errors reach columns behind these in one matrix product."""

_ROWS_AT_ONCE = 1024
"""On CPUs, whose caches then hold a column of targets; rows know nothing of each other. Elsewhere all are taken, for
there the number of calls is what takes time.
"""


@dataclass(frozen=True)
class Curvature:
    """H of a layer's inputs, made ready for all weights that take these inputs.

    Attributes:
        order: ``(columns,)`` int64, columns by falling diagonal: the loudest are rounded while the rest can still help.
        matrix: ``(columns, columns)`` float32, damped, in this order.
        factor: upper triangular float32 U with ``U^T U`` its inverse: row j says how the error of column j is made good
            by those behind it.
    """

    order: torch.Tensor
    matrix: torch.Tensor
    factor: torch.Tensor

    @classmethod
    def of(cls, hessian: torch.Tensor) -> "Curvature":
        """From ``X^T X``, ``(columns, columns)``. Channels that are always zero count as much as the damping.

        Raises:
            ValueError: for a matrix that is no finite sum of ``x x^T``.
        """
        if hessian.dim() != 2 or hessian.shape[0] != hessian.shape[1]:
            raise ValueError(f"a Hessian is (columns, columns), not {tuple(hessian.shape)}")
        exact = hessian.double()
        diagonal = exact.diagonal()
        if not exact.isfinite().all() or (diagonal < 0).any():
            raise ValueError("a Hessian is finite with nothing below 0 on its diagonal; were activations NaN?")
        if not (diagonal > 0).any():
            exact = torch.eye(len(diagonal), dtype=exact.dtype, device=exact.device)
        order = torch.argsort(exact.diagonal(), descending=True, stable=True)
        exact = exact[order][:, order]
        exact = exact / exact.diagonal().mean()  # columns that differ a lot in size stay in float32's range
        exact.diagonal().add_(_DAMPING)
        lower, failed = torch.linalg.cholesky_ex(exact)
        if failed:
            raise ValueError("a Hessian is a sum of x x^T, hence positive; this one is not")
        factor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
        return cls(order, exact.float(), factor.float())


def compensate(
    weight: torch.Tensor,
    curvature: Curvature,
    group_size: int | None = None,
    importance: Mapping[int, float] = IMPORTANCE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose codes with activations; scales are those of `planes.encode`.

    Args:
        weight: ``(rows, columns)``, floating, finite.
        curvature: of the layer's inputs.
        group_size: columns that share a scale; None for all columns of a row.
        importance: of the error at each width, by width, above 0, in squared steps of the width.

    Returns:
        Codes ``(rows, columns)`` uint8 and scales as `planes.encode` gives them. No row has a larger E than with the
        codes of `encode`, where it keeps those.

    Raises:
        ValueError: for a curvature of other columns, or an importance that is not of all widths or not above 0.
    """
    if weight.shape[1] != len(curvature.order):
        raise ValueError(f"the curvature is of {len(curvature.order)} columns, the weight has {weight.shape[1]}")
    _check_importance(importance)
    codes, scale = encode(weight, group_size)
    steps = scale[:, None].expand(weight.shape) if scale.dim() == 1 else scale[:, _owners(weight, scale)]
    order = curvature.order
    at_once = _ROWS_AT_ONCE if weight.device.type == "cpu" else max(1, weight.shape[0])
    for start in range(0, weight.shape[0], at_once):
        rows = slice(start, start + at_once)
        part = _Rows.of(weight[rows].float()[:, order], steps[rows][:, order], curvature, importance)
        plain = codes[rows][:, order].T.long()
        chosen = part.rounded()
        for _ in range(_SWEEPS):
            part.descend(chosen)
        better = part.error(chosen) < part.error(plain)
        chosen = torch.where(better & (part.steps != 0), chosen, plain)
        codes[rows] = codes[rows].index_copy(1, order, chosen.T.to(torch.uint8))
    return codes, scale


def objective(
    weight: torch.Tensor,
    curvature: Curvature,
    codes: torch.Tensor,
    scale: torch.Tensor,
    importance: Mapping[int, float] = IMPORTANCE,
) -> torch.Tensor:
    """E of every row, ``(rows,)`` float64: what `compensate` makes small."""
    order = curvature.order
    steps = scale[:, None].expand(weight.shape) if scale.dim() == 1 else scale[:, _owners(weight, scale)]
    rows = _Rows.of(weight.float()[:, order], steps[:, order], curvature, importance)
    return rows.error(codes[:, order].T.long())


@dataclass(frozen=True)
class Choice:
    """Finds the code that lies best to one target for each width, by ``sum of weight * (reading - target)^2``.

    Readings move by a cell of the narrowest width when a code does, at all widths alike. So for each place within such
    a cell the cost is a parabola in the cell, whose best cell is known: 16 places are compared instead of 256 codes.

    Attributes:
        cells: how many there are.
        size: codes in a cell.
        shares: ``(widths,)``, of the weights in their sum.
        middle: ``(size,)``, readings of each place in cell 0, the mean over widths by these shares.
        bend: of the parabola in the cell.
        linear: ``(widths, size)``, and
        constant: ``(size,)``: what a place costs in its best cell, if that could be any real number.
    """

    cells: int
    size: int
    shares: torch.Tensor
    middle: torch.Tensor
    bend: float
    linear: torch.Tensor
    constant: torch.Tensor

    @classmethod
    def of(cls, readings: torch.Tensor, weights: torch.Tensor) -> "Choice":
        """From readings of all codes ``(widths, 256)``, and the weight of each width."""
        size = 2 ** max(row.shift for row in FORMATS.values())
        first, total = readings[:, :size], weights.sum()
        middle = weights @ first / total
        apart = first - middle
        return cls(
            cells=readings.shape[1] // size,
            size=size,
            shares=weights / total,
            middle=middle,
            bend=float(total) * size**2,
            linear=-2 * weights[:, None] * apart,
            constant=(weights[:, None] * apart.square()).sum(0),
        )

    def best(self, targets: torch.Tensor) -> torch.Tensor:
        """Codes ``(rows,)`` int64 for targets ``(widths, rows)``, in steps."""
        wanted = ((self.shares @ targets)[:, None] - self.middle).mul_(1 / self.size)
        cell = wanted.round().clamp_(0, self.cells - 1)
        off = wanted.sub_(cell)
        cost = torch.addmm(self.constant, targets.T, self.linear).addcmul_(off, off, value=self.bend)
        place = cost.min(1, keepdim=True).indices
        return cell.gather(1, place).long().mul_(self.size).add_(place).squeeze(1)


@dataclass(frozen=True)
class _Rows:
    """Some rows of a weight, transposed, so that a column lies in one piece; columns in the curvature's order.

    Attributes:
        weight: ``(columns, rows)``.
        steps: likewise, the scale of each value.
        inverse: likewise, of the steps; 0 for 0.
        readings: ``(widths, 256)``: what a code stands for at each width, in steps.
        weights: ``(widths,)`` of the errors in E.
        choice: finds codes.
        curvature: of the inputs.
    """

    weight: torch.Tensor
    steps: torch.Tensor
    inverse: torch.Tensor
    readings: torch.Tensor
    weights: torch.Tensor
    choice: "Choice"
    curvature: Curvature

    @classmethod
    def of(
        cls, weight: torch.Tensor, steps: torch.Tensor, curvature: Curvature, importance: Mapping[int, float]
    ) -> "_Rows":
        """From ``(rows, columns)``."""
        device = weight.device
        code = torch.arange(2**CODE_BITS, device=device)
        formats = FORMATS.values()
        readings = torch.stack([(code >> row.shift << row.shift).float() - row.zero_point for row in formats])
        weights = torch.tensor([importance[row.width] / 4**row.shift for row in formats], device=device)
        steps = steps.T.contiguous()
        inverse = torch.where(steps == 0, 0, steps.reciprocal())
        return cls(weight.T.contiguous(), steps, inverse, readings, weights, Choice.of(readings, weights), curvature)

    def rounded(self) -> torch.Tensor:
        """Codes ``(columns, rows)``, one column after the other, each making up for those before it."""
        columns, rows = self.weight.shape
        factor = self.curvature.factor
        targets = self.weight[:, None].repeat(1, len(self.weights), 1)
        codes = torch.empty(columns, rows, dtype=torch.int64, device=targets.device)
        for start in range(0, columns, _COLUMNS_AT_ONCE):
            end = min(start + _COLUMNS_AT_ONCE, columns)
            errors = torch.empty(end - start, len(self.weights), rows, device=targets.device)
            for column in range(start, end):
                own = targets[column]
                codes[column] = self.choice.best(own * self.inverse[column])
                restored = self.readings[:, codes[column]] * self.steps[column]
                errors[column - start] = error = (own - restored) / factor[column, column]
                later = slice(column + 1, end)
                targets[later].flatten(1).addr_(factor[column, later], error.flatten(), alpha=-1)
            targets[end:].flatten(1).addmm_(factor[start:end, end:].T, errors.flatten(1), alpha=-1)
        return codes

    def descend(self, codes: torch.Tensor) -> None:
        """One sweep: each code, all others given, becomes the one with the least E. In place; E never rises."""
        columns = len(self.weight)
        matrix = self.curvature.matrix
        errors = self._errors(codes)
        for start in range(0, columns, _COLUMNS_AT_ONCE):
            end = min(start + _COLUMNS_AT_ONCE, columns)
            slopes = (matrix[start:end] @ errors.flatten(1)).view(end - start, *errors.shape[1:])
            for column in range(start, end):
                before = self.readings[:, codes[column]]
                wanted = slopes[column - start] / matrix[column, column] * self.inverse[column]
                codes[column] = self.choice.best(before - wanted)
                moved = (self.readings[:, codes[column]] - before) * self.steps[column]
                errors[column] += moved
                later = slice(column + 1, end)
                slopes[column + 1 - start :].flatten(1).addr_(matrix[later, column], moved.flatten())

    def error(self, codes: torch.Tensor) -> torch.Tensor:
        """E of every row, ``(rows,)`` float64."""
        errors = self._errors(codes)
        seen = (self.curvature.matrix @ errors.flatten(1)).view(errors.shape)
        return (self.weights.double() @ (errors.double() * seen).sum(0)).contiguous()

    def _errors(self, codes: torch.Tensor) -> torch.Tensor:
        """What each width restores too much, ``(columns, widths, rows)``."""
        restored = self.readings[:, codes].transpose(0, 1) * self.steps[:, None]
        return restored - self.weight[:, None]


def _owners(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return group_of_columns(weight.shape[1], scale.shape[1]).to(weight.device)


def _check_importance(importance: Mapping[int, float]) -> None:
    if set(importance) != set(FORMATS) or not all(0 < value < float("inf") for value in importance.values()):
        raise ValueError(
            f"importance is a number above 0 for each of {', '.join(map(str, FORMATS))} bits: {importance}"
        )
