from setuptools import Extension, setup

setup(name="c-extension", version="1.0", ext_modules=[Extension("c_extension", ["c_extension.c"])])
