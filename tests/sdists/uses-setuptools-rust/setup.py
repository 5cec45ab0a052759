from setuptools import setup
from setuptools_rust import Binding, RustExtension

setup(rust_extensions=[RustExtension("uses_setuptools_rust", binding=Binding.NoBinding)])
