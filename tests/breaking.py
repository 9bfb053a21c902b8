"""A model whose blocks torch.compile cannot capture whole."""

import torch


class Breaking(torch.nn.Module):
    """Three blocks with a graph break in the middle of each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(BreakingBlock() for _ in range(3))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        x = x + timestep[:, None, None] * 1e-3
        for block in self.blocks:
            x = block(x)
        return x


class BreakingBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(32, 64)
        self.down = torch.nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.gelu(self.up(x))
        torch._dynamo.graph_break()
        return x + self.down(hidden)
