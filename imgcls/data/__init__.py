"""Data sets: where they come from, how they lie on disk, and how they become batches."""
