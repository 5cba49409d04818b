"""How good a run is: stored predictions, and what can be computed from them without torch."""
