from setuptools import Extension, setup

setup(name="missing-header", version="1.0", ext_modules=[Extension("missing_header", ["missing_header.c"])])
