from setuptools import setup

setup(name="wrapped-setuptools", version="1.0", py_modules=["wrapped_setuptools"])
