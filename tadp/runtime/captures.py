"""What of a model was captured: whether plans have an effect at all, and on attention."""

from collections.abc import Sequence

from tadp.precision import L16, Plan, Role
from tadp.runtime.explanation import ExplainedLayer


class Captures:
    """Tells once of a model what no plan can lower in it."""

    def __init__(self) -> None:
        self._checked: Plan | None = None
        self._is_whole = False
        self._told: set[str] = set()

    def are_checked(self, plan: Plan) -> bool:
        """Whether there is nothing to check: a plan is known, or nothing was missing for any."""
        return self._is_whole or self._checked is plan

    def check(self, plan: Plan, blocks: int, layers: Sequence[ExplainedLayer]) -> str | None:
        """What is missing and was not told before; None where nothing is.

        Args:
            plan: that a forward has just followed.
            blocks: how many the model has.
            layers: that are known.
        """
        captured = [layer for layer in layers if layer.structure]
        has_attention = any(layer.role is Role.ATTENTION for layer in captured)
        self._checked, self._is_whole = plan, has_attention
        missing = None
        if not captured:
            missing = (
                f"nothing of the {blocks} blocks was captured, so everything runs at 16 bits: the forward does not "
                "call them, calls other methods than their forward, or torch.compile is switched off"
            )
        elif not has_attention and any(recipe[Role.ATTENTION] != L16 for _, recipe in plan):
            missing = (
                f"the plan asks for attention products below 16 bits, and none was found in the {blocks} blocks, so "
                "they run as the model has them. Of attention backends tadp knows torch's "
                'scaled_dot_product_attention, which model.set_attention_backend("native") sets in diffusers'
            )
        if missing is None or missing in self._told:
            return None
        self._told.add(missing)
        return missing
