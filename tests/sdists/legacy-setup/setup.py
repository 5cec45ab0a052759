from setuptools import setup

setup(name="legacy-setup", version="1.0", py_modules=["legacy_setup"])
