"""What costs are known, and which plan is best within limits: costs of recipes, the problem, its solver, the curve."""
