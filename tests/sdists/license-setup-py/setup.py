from setuptools import setup

setup(name="license-setup-py", version="1.0", py_modules=["license_setup_py"], license="MIT", license_files=["LICENSE"], classifiers=["License :: OSI Approved :: MIT License"])
