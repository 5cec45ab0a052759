"""The client of the build farm and the vocabulary that its services and workers share."""

__version__ = "0.1.0"
