"""A kind of sdist."""


def answer():
    return 42
