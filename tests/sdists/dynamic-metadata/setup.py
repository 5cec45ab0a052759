import sys

from setuptools import setup

setup(name="dynamic-metadata", version="1.0", py_modules=["dynamic_metadata"], install_requires=[f"kind-helper>{sys.version_info[0] - 3}"])
