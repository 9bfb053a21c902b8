"""Whether a clip of the embedded model shows what its caption asks for: colours, shapes, motions."""
