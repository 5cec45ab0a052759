from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403


def get_requires_for_build_wheel(config_settings=None):
    return [*build_meta.get_requires_for_build_wheel(config_settings), "kind-helper"]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import kind_helper

    assert kind_helper.answer() == 42
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
