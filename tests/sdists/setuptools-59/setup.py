import setuptools
from setuptools import setup

assert setuptools.__version__.startswith('59.')

setup(name="setuptools-59", version="1.0", py_modules=["setuptools_59"])
