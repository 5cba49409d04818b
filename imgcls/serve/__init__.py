"""A model behind HTTP: pictures in, calibrated answers out."""
