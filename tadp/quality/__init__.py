"""How good a clip is: fidelity to a reference clip, and agreement with the caption it was asked for."""
