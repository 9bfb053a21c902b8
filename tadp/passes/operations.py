"""What the passes look for in a captured graph: the operations that may have a level, and where examples are kept."""

import torch
from torch import fx

LINEAR = (torch.nn.functional.linear, torch._C._nn.linear)
ATTENTION = (torch.nn.functional.scaled_dot_product_attention, torch._C._nn.scaled_dot_product_attention)

EXAMPLE = "example_value"
"""The key of a node's ``meta`` under which Dynamo keeps a fake tensor of its shape and type."""


def is_linear(node: fx.Node) -> bool:
    """Whether a node is a linear layer's product."""
    return node.op == "call_function" and node.target in LINEAR
