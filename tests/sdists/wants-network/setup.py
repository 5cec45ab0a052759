import urllib.request

from setuptools import setup

urllib.request.urlopen("http://192.0.2.1/data", timeout=5)

setup(name="wants-network", version="1.0", py_modules=["wants_network"])
