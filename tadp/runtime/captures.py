"""What of a model was captured: whether policies have an effect at all, and on attention."""

from collections.abc import Sequence

from tadp.policy import Policy
from tadp.precision import L16, Role
from tadp.runtime.explanation import ExplainedLayer


class Captures:
    """Tells once of a model what no policy can lower in it."""

    def __init__(self) -> None:
        self._checked: Policy | None = None
        self._told: set[str] = set()

    def are_checked(self, policy: Policy) -> bool:
        """Whether there was a check since a policy is in force."""
        return self._checked is policy

    def check(self, policy: Policy, blocks: int, layers: Sequence[ExplainedLayer]) -> str | None:
        """What is missing and was not told before; None where nothing is.

        Args:
            policy: in force.
            blocks: how many the model has.
            layers: that are known after a forward.
        """
        self._checked = policy
        missing = _missing(policy, blocks, [layer for layer in layers if layer.structure])
        if missing is None or missing in self._told:
            return None
        self._told.add(missing)
        return missing


def _missing(policy: Policy, blocks: int, captured: Sequence[ExplainedLayer]) -> str | None:
    if not captured:
        return (
            f"nothing of the {blocks} blocks was captured, so everything runs at 16 bits: the forward does not call "
            "them, calls other methods than their forward, or torch.compile is switched off"
        )
    asked = any(recipe[Role.ATTENTION] != L16 for recipe in policy.recipes())
    if asked and not any(layer.role is Role.ATTENTION for layer in captured):
        return (
            f"the policy asks for attention products below 16 bits, and none was found in the {blocks} blocks, so they "
            "run as the model has them. Of attention backends tadp knows torch's scaled_dot_product_attention, which "
            'model.set_attention_backend("native") sets in diffusers'
        )
    return None
