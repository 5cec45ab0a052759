import setuptools
from setuptools import setup

assert int(setuptools.__version__.partition('.')[0]) < 60

setup(name="old-setuptools", version="1.0", py_modules=["old_setuptools"])
