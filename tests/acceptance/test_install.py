"""Requirements in, an environment installed from source out."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.conftest import PATIENCE_S, Home
from tests.support.projects import Project, backend_project, record_hash


def run_python(environment: Path, code: str) -> str:
    done = subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_set_is_built_with_its_build_requirements_and_installed(home: Home) -> None:
    home.upstream.add(
        Project(name="app", requires_dist=["library>=1"], build_requires=["tinybackend"], backend="tinybackend"),
        Project(name="library", version="1.5"),
        backend_project(),
    )

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err
    assert run_python(home.root / "env", "import app, library; print(app.VERSION, library.VERSION)") == "1.0 1.5"
    assert home.wheel_names() == [
        "app-1.0-1-py3-none-any.whl",
        "library-1.5-1-py3-none-any.whl",
        "tinybackend-1.0-1-py3-none-any.whl",
    ]
    assert sorted(done.out.split()) == ["app==1.0", "library==1.5"]


def test_every_installed_file_agrees_with_its_record(home: Home) -> None:
    home.upstream.add(Project(name="app", modules={"app/__init__.py": "", "app/data.txt": "d" * 5000}))

    home.run("install", "--target-dir", home.root / "target", "app")

    target = home.root / "target"
    rows = list(csv.reader(io.StringIO((target / "app-1.0.dist-info" / "RECORD").read_text())))
    hashed = [row for row in rows if row[1]]
    assert {"app/__init__.py", "app/data.txt"} <= {row[0] for row in hashed}
    assert all(record_hash((target / row[0]).read_bytes()) == row[1] for row in hashed)


def test_upstream_is_asked_for_no_wheel(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["library"]), Project(name="library", static=False))
    home.upstream.add_file("app", "app-1.0-py3-none-any.whl", b"prebuilt")
    home.upstream.add_file("library", "library-2.0-py3-none-any.whl", b"prebuilt")

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err
    assert sorted(home.upstream.files_asked) == ["app-1.0.tar.gz", "library-1.0.tar.gz"]


def test_dynamic_metadata_is_that_of_the_wheel_which_is_built_once(home: Home) -> None:
    home.upstream.add(
        Project(
            name="app", static=False, requires_dist=["library"], build_code="print('building', TINY['wheel_name'])"
        ),
        Project(name="library", static=False),
    )

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err
    assert run_python(home.root / "env", "import library; print('there')") == "there"
    assert len(home.build_logs()) == 2


def test_requirements_that_a_hook_asks_for_are_built_too(home: Home) -> None:
    home.upstream.add(
        Project(name="app", asks=["helper>=2; python_version >= '3'", "nothing; python_version < '3'"],
                build_code="import helper; TINY['modules']['app/__init__.py'] = 'HELPER = %r' % helper.VERSION"),
        Project(name="helper", version="1.0"),
        Project(name="helper", version="2.0"),
    )  # fmt: skip

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err
    assert run_python(home.root / "env", "import app; print(app.HELPER)") == "2.0"


def test_what_was_installed_from_elsewhere_is_replaced(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    home.run("install", "--venv", home.root / "env", "app")
    module = Path(run_python(home.root / "env", "import app; print(app.__file__)"))
    module.write_text("VERSION = 'from elsewhere'\n")

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err
    assert done.out.split() == ["app==1.0"]
    assert run_python(home.root / "env", "import app; print(app.VERSION)") == "1.0"


def test_repetition_touches_nothing_but_the_store(home: Home) -> None:
    home.upstream.add(Project(name="app", static=False), backend_project())
    home.run("install", "--venv", home.root / "env", "app")
    asked = len(home.upstream.requests)
    log = home.farm_log_at_rest()

    again = home.run("install", "--venv", home.root / "env", "app")
    elsewhere = home.run("install", "--venv", home.root / "other", "app")

    assert (again.code, elsewhere.code) == (0, 0)
    assert again.out == ""
    assert elsewhere.out.split() == ["app==1.0"]
    assert len(home.upstream.requests) == asked
    assert home.farm_log() == log, "a farm was started"


def test_upgrade_looks_again(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    home.run("install", "--venv", home.root / "env", "app")
    home.upstream.add(Project(name="app", version="2.0"))

    remembered = home.run("install", "--venv", home.root / "env", "app")
    upgraded = home.run("install", "--venv", home.root / "env", "--upgrade", "app")

    assert remembered.out == ""
    assert upgraded.out.split() == ["app==2.0"]


def test_wheels_in_out_are_taken_by_pip_alone(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["library"]), Project(name="library"))
    done = home.run("build", "--out", home.root / "out", "app")
    assert done.code == 0, done.err
    pip = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", "--find-links", str(home.root / "out")]

    subprocess.run([*pip, "--target", str(home.root / "lib"), "--no-cache-dir", "app"], check=True, capture_output=True)

    assert (home.root / "lib" / "library" / "__init__.py").exists()


def test_flat_page_names_the_wheels_by_relative_links_and_hashes(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    found = home.run("build", "--json", "app").json["wheels"][0]

    (page,) = home.flat_pages(1)

    assert f'href="../../wheels/{found["sha256"]}/{found["filename"]}#sha256={found["sha256"]}"' in page.read_text()


def test_json_result_is_a_document_and_stdout_holds_nothing_else(home: Home) -> None:
    home.upstream.add(Project(name="app"))

    done = home.run("install", "--json", "--venv", home.root / "env", "app")

    value = json.loads(done.out)
    assert [wheel["filename"] for wheel in value["installed"]] == ["app-1.0-1-py3-none-any.whl"]


def test_requirements_file_is_followed(home: Home) -> None:
    home.upstream.add(
        Project(name="app"), Project(name="library", version="1.0"), Project(name="library", version="2.0")
    )
    (home.root / "more.txt").write_text("library  # the newest that is allowed\n")
    (home.root / "limits.txt").write_text("library<2\n")
    (home.root / "requirements.txt").write_text("app==1.0\n-r more.txt\n-c limits.txt\n")

    done = home.run("install", "--venv", home.root / "env", "-r", home.root / "requirements.txt")

    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["app==1.0", "library==1.0"]


def test_hash_that_the_requirements_do_not_allow_is_refused(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    (home.root / "requirements.txt").write_text(f"app==1.0 --hash=sha256:{'0' * 64}\n")

    done = home.run("install", "--venv", home.root / "env", "-r", home.root / "requirements.txt")

    assert done.code == 14
    assert "app==1.0" in done.err
    assert home.wheel_names() == []


def test_two_commands_share_one_farm(home: Home) -> None:
    home.upstream.add(
        Project(name="slow", build_code="import time; time.sleep(2)"), Project(name="app", requires_dist=["slow"])
    )
    processes = [home.start("install", "--venv", home.root / name, "app") for name in ("one", "two")]

    ended = [process.communicate(timeout=PATIENCE_S) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], ended
    assert home.farm_log_at_rest().count("build begins") == 2, "each job is built once"


def test_build_sees_no_secret_of_the_environment(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_code="import os; TINY['modules']['app/__init__.py'] = 'SEEN = %r' % dict(os.environ)")
    )

    home.run("install", "--venv", home.root / "env", "app", environment={"AWS_SECRET_ACCESS_KEY": "hunter2"})

    seen = run_python(home.root / "env", "import app; print(app.SEEN)")
    assert "hunter2" not in seen
    assert "WHEELFARM_TOKEN" not in seen
    assert "SOURCE_DATE_EPOCH" in seen


def test_other_interpreter_gets_wheels_of_its_own(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    other = next((path for path in map(Path, ("/usr/bin/python3",)) if path.exists()), Path(sys.executable))

    first = home.run("build", "--json", "--python", sys.executable, "app")
    second = home.run("build", "--json", "--python", other, "app")

    assert (first.code, second.code) == (0, 0), second.err
    same = os.path.realpath(other) == os.path.realpath(sys.executable)
    home.flat_pages(1 if same else 2)


def test_code_of_an_sdist_leaves_its_marker_nowhere_outside(home: Home) -> None:
    places = [
        home.root / "marker",
        Path("/tmp/wheelfarm-marker"),
        home.store / "marker",
        Path("/var/tmp/wheelfarm-marker"),
    ]
    write = f"""
import os
for place in {[str(place) for place in places]!r}:
    try:
        open(place, "w").close()
    except OSError:
        pass
"""
    home.upstream.add(
        Project(name="app", static=False, code=write, build_code=write, build_requires=["helper"]),
        Project(name="helper", static=False, code=write),
    )

    done = home.run("install", "--venv", home.root / "env", "app")

    assert done.code == 0, done.err
    assert not [place for place in places if place.exists()]


def test_unconfined_builds_say_so_on_every_line_and_have_an_index_of_their_own(home: Home) -> None:
    home.upstream.add(Project(name="app", build_requires=["tinybackend"], backend="tinybackend"), backend_project())
    home.run("install", "--venv", home.root / "env", "app")

    done = home.run("install", "--sandbox", "none", "--venv", home.root / "other", "app")

    assert done.code == 0, done.err + home.farm_log()
    assert done.err
    assert all(line.startswith("[unsandboxed] ") for line in done.err.splitlines())
    assert run_python(home.root / "other", "import app; print(app.VERSION)") == "1.0"
    pages = [page.parent.name for page in home.flat_pages(2)]
    assert [page.endswith("-unsandboxed") for page in pages] == [False, True]
