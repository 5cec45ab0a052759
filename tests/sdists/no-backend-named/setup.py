from setuptools import setup

setup(name="no-backend-named", version="1.0", py_modules=["no_backend_named"])
