"""Trees that clients sent: the sdist of each is made in the sandbox (`build_sdist` of PEP 517), and kept as local."""

import hashlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from wheelfarm.errors import BadSdist, BuildFailed
from wheelfarm.job import Job, Sdist
from wheelfarm_services.local_sources import LocalSources, sdist_told_by
from wheelfarm_services.sdist_head import read_head
from wheelfarm_workers.answer import Answer
from wheelfarm_workers.build import Builder
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.plan import Planner, StagedSdist

_ROUNDS = 4
"""How often a backend may ask for more before its build is given up."""


class SdistMaker:
    """Makes sdists of trees. A tree is planned as an sdist is, with what its backend wants for making one."""

    def __init__(self, *, planner: Planner, builder: Builder, sources: LocalSources, work: Path) -> None:
        self._planner = planner
        self._builder = builder
        self._sources = sources
        self._work = work

    def make(self, job: Job, hold: Hold) -> Sdist:
        """The sdist of a job's tree, made now or before. Raises the reason when the backend makes none."""
        made = self._sources.made(job)
        if made is not None:
            return made
        staged = self._planner.stage(job)
        for _ in range(_ROUNDS):
            planned = self._planner.plan(staged, hold)
            answer = self._builder.build(planned, hold)
            with answer.body:
                staged = self._planner.with_answer(planned, answer.requires).staged
                if answer.facts["outcome"] == "built":
                    return self._keep(staged, answer)
        raise BuildFailed(f"The backend of {job.sdist} asked for other requirements {_ROUNDS} times over.")

    def _keep(self, staged: StagedSdist, answer: Answer) -> Sdist:
        """Check what the backend made, and keep it. Raises BuildFailed for what is no sdist."""
        with TemporaryDirectory(dir=self._work, prefix="sdist-") as folder:
            path = Path(folder) / "sdist"
            with path.open("wb") as copy:
                shutil.copyfileobj(answer.body, copy, 1 << 20)
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                try:
                    given = Sdist(
                        name=staged.job.sdist.name, version="0", filename=str(answer.facts["filename"]), sha256=sha256
                    )
                    file.seek(0)
                    head = read_head(given, file)
                    sdist = sdist_told_by(given, head)
                except BadSdist as error:
                    raise BuildFailed(f"What the backend of {staged.job.sdist} made is no sdist: {error}") from error
            self._sources.keep_made(staged.job, sdist, head, path)
            return self._sources.made(staged.job) or sdist
