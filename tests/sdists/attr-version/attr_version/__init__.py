__version__ = "1.0"


def answer():
    return 42
