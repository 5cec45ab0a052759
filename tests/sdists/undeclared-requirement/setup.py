import kind_helper
from setuptools import setup

assert kind_helper.answer() == 42

setup(name="undeclared-requirement", version="1.0", py_modules=["undeclared_requirement"])
