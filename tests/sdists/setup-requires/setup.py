from setuptools import setup
from setuptools.command.build_py import build_py


class Helped(build_py):
    def run(self):
        import kind_helper

        assert kind_helper.answer() == 42
        super().run()


setup(name="setup-requires", version="1.0", py_modules=["setup_requires"], setup_requires=["kind-helper"], cmdclass={"build_py": Helped})
