from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm.settings import Settings

HOME = {"HOME": "/home/user"}


def read(**given: str) -> Settings:
    return Settings.from_environment({**HOME, **{f"WHEELFARM_{name.upper()}": value for name, value in given.items()}})


def test_defaults_lie_in_the_users_home() -> None:
    settings = read()
    assert settings.store == "file:///home/user/.local/share/wheelfarm"
    assert settings.cache == Path("/home/user/.cache/wheelfarm")
    assert 1 <= settings.slots <= 8


def test_xdg_directories_are_honoured_unless_they_are_relative() -> None:
    given = {**HOME, "XDG_DATA_HOME": "/data dir", "XDG_CACHE_HOME": "relative"}
    settings = Settings.from_environment(given)
    assert settings.store == "file:///data%20dir/wheelfarm"
    assert settings.cache == Path("/home/user/.cache/wheelfarm")


def test_empty_value_counts_as_not_given() -> None:
    assert read(slots="", url="", store="") == read()


def test_every_field_is_read_from_its_variable() -> None:
    given = {
        "url": "https://farm.example:8443/",
        "token": "secret",
        "broker": "redis+socket:///run/redis.sock?virtual_host=0",
        "store": "file:///srv/store/",
        "index": "https://user:pw@index.example/simple/",
        "cache": "/srv/cache",
        "sandbox": "none",
        "slots": "3",
        "lease_s": "12.5",
        "build_timeout_s": "60",
        "build_memory_mib": "512",
        "build_disk_mib": "1024",
        "worker": "w1",
        "targets": "/srv/targets",
        "resource_class": "large",
        "container_runtime": "/usr/local/bin/runsc",
    }
    assert read(**given) == Settings(
        url="https://farm.example:8443",
        token="secret",  # noqa: S106
        broker="redis+socket:///run/redis.sock?virtual_host=0",
        store="file:///srv/store",
        index="https://user:pw@index.example/simple",
        cache=Path("/srv/cache"),
        sandbox="none",
        slots=3,
        lease_s=12.5,
        build_timeout_s=60.0,
        build_memory_mib=512,
        build_disk_mib=1024,
        worker="w1",
        targets=Path("/srv/targets"),
        resource_class="large",
        container_runtime="/usr/local/bin/runsc",
    )


def test_store_may_be_given_as_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(store="a store").store == f"file://{tmp_path}/a%20store"


def test_unknown_variable_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="WHEELFARM_STROE is not a setting") as caught:
        read(stroe="/srv/store")
    assert "WHEELFARM_STORE" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("url", "farm.example", "http://"),
        ("url", "ftp://farm.example", "http://"),
        ("url", "https:/farm.example", "https://"),
        ("url", "https:///path", "https://"),
        ("url", "https://", "https://"),
        ("url", "https://[::1", "https://"),
        ("index", "index.example/simple", "https://"),
        ("metrics", "9464", "HOST:PORT"),
        ("metrics", "unix:/run/metrics", "HOST:PORT"),
        ("log_format", "xml", "text or json"),
        ("broker", "amqp://broker", "redis://"),
        ("broker", "redis://", "redis://"),
        ("broker", "redis+socket://run/redis.sock", "redis+socket:///"),
        ("store", "s3://b", "s3://bucket"),
        ("store", "s3://bucket/../other", "s3://bucket"),
        ("store", "gs://bucket", "file:///"),
        ("s3_addressing", "host", "auto or path or virtual"),
        ("store", "file://srv/store", "file:///"),
        ("sandbox", "None", "bubblewrap or none"),
        ("container_runtime", "--privileged x", "a name, such as runc"),
        ("slots", "0", "whole number from 1 to 64"),
        ("slots", "2.5", "whole number from 1 to 64"),
        ("slots", "two", "whole number from 1 to 64"),
        ("lease_s", "nan", "number from 1 to 3600"),
        ("lease_s", "inf", "number from 1 to 3600"),
        ("build_timeout_s", "0.5", "number from 1 to 604800"),
        ("build_memory_mib", "1", "whole number from 64 to 1048576"),
        ("build_disk_mib", "-1", "whole number from 64 to 1048576"),
    ],
)
def test_malformed_value_names_variable_value_and_accepted_form(name: str, value: str, accepted: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**{name: value})
    assert caught.value.message == f"WHEELFARM_{name.upper()}={value!r} is not accepted."
    assert accepted in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "amqp://user:secret@broker/0",
        "redis+unix://:secret@broker",
        "amqp://user:sec/ret@broker",
        "amqp://user:sec@ret@broker",
        "amqp://user:se#cret@broker",
        "user:secret@broker:6379",
        "redis://user:secret@[::1",
        "s3://user:secret@bucket/prefix",
        "file://user:secret@host/path",
    ],
)
@pytest.mark.parametrize("name", ["broker", "s3_endpoint"])
def test_password_of_a_refused_url_is_not_shown(name: str, url: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**{name: url})
    assert name in caught.value.message.lower()
    for part in ("sec", "ret@", "user"):
        assert part not in caught.value.message


@pytest.mark.parametrize("url", ["s3://key:hidden@bucket/prefix", "file://key:hidden@host/path"])
def test_credentials_in_the_stores_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError) as caught:
        read(store=url)
    assert "hidden" not in caught.value.message


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        given = {**HOME, "WHEELFARM_SLOTS": "many", "WHEELFARM_SHOP": "1"}
        Settings.from_environment(given, required=["broker", "url"])
    told = caught.value.message
    assert told.startswith("4 settings are not accepted")
    assert all(f"WHEELFARM_{name}" in told for name in ("SLOTS='many'", "SHOP", "BROKER", "URL"))
    assert "a whole number from 1 to 64" in told


def test_password_of_a_malformed_url_is_not_told_among_others() -> None:
    with pytest.raises(InputError) as caught:
        Settings.from_environment({**HOME, "WHEELFARM_SLOTS": "many", "WHEELFARM_BROKER": "http://user:pw@host"})
    assert "pw" not in caught.value.message
