import distutils.util
from distutils.core import setup

assert distutils.util.strtobool('yes')

setup(name="setup-distutils-312", version="1.0", py_modules=["setup_distutils_312"])
