"""imgcls: explore, train, judge and use image classifiers, in a browser or from a shell."""

__version__ = "0.1.0"
