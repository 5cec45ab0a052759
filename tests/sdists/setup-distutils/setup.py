from distutils.core import setup

setup(name="setup-distutils", version="1.0", py_modules=["setup_distutils"])
