from setuptools import setup
from wheel.bdist_wheel import bdist_wheel

setup(name="imports-wheel", version="1.0", py_modules=["imports_wheel"], cmdclass={"bdist_wheel": bdist_wheel})
