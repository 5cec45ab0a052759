from setuptools import setup

setup(name="no-pkg-info", version="1.0", py_modules=["no_pkg_info"])
