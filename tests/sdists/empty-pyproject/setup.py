from setuptools import setup

setup(name="empty-pyproject", version="1.0", py_modules=["empty_pyproject"])
