"""imgcls: explore, train, judge and use image classifiers, in the browser or from the command line."""

__version__ = "0.1.0"
