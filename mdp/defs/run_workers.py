"""The processes that execute runs beside a code server: the sign that each gives, and who looks at it.

Dagster's own launcher does not watch them: a run whose process goes with its code server would stay "started" for ever,
and keep its place among those that may run at once. Not here: how many may run at once (``queue``), workers on other
hosts (``mdp.hosts``).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import ConfigurableClassData

from mdp.config.settings import load_settings
from mdp.defs.cores import yield_to_others
from mdp.defs.queue import LIVE, PLACE_TAG
from mdp.defs.relaunching import LostRuns, waiting_for_storage

BEGIN_S = 5.0
"""Between the event that says that a run started and its sign lie milliseconds; so long at most on a busy machine."""

_TRIES = 5

_held: list[int] = []
"""Locks of this process: the kernel frees them when it ends, however it ends."""


class Signs:
    """Signs of life of runs: a file for each run, made by the launcher and locked by the process that executes it.

    Args:
        folder: On a file system that launcher and code server share.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, run_id: str) -> Path:
        """Return where the sign of a run is."""
        return self._folder / f"{run_id}.lock"

    def expect(self, run_id: str) -> None:
        """Make the file that the process of a run is to lock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.path_of(run_id).touch()

    def is_expected(self, run_id: str) -> bool:
        """Tell whether anybody looks at the sign of a run."""
        return self.path_of(run_id).exists()

    def give(self, run_id: str) -> None:
        """Lock the file of a run for as long as this process lives.

        Raises:
            BlockingIOError: another process executes the run.
            FileNotFoundError: nobody expects it here.
        """
        file = os.open(self.path_of(run_id), os.O_RDWR)
        for tries_left in range(_TRIES, -1, -1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not tries_left:
                    os.close(file)
                    raise
                time.sleep(0.1)  # whoever only looks has it for an instant too
            else:
                _held.append(file)
                return

    def is_given(self, run_id: str) -> bool:
        """Tell whether a process that executes a run lives.

        Raises:
            FileNotFoundError: nobody expects a sign of it.
        """
        with self.path_of(run_id).open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def forget_ended(self, has_ended: Callable[[str], bool]) -> None:
        """Remove the files of runs that ended, and whose process did too."""
        for path in self._folder.glob("*.lock"):
            if has_ended(path.stem) and not self.is_given(path.stem):
                path.unlink(missing_ok=True)


class WatchedRunLauncher(DefaultRunLauncher):
    """Has the code server execute runs, and notices when a process that executes one is gone.

    Dagster's run monitoring then fails the run, and ``run_retries`` launches it again. The code server alone tells of a
    process that died only as long as it lives itself, and could reach Dagster's storage ever since it started.
    """

    def __init__(self, signs: Signs, inst_data: ConfigurableClassData | None = None) -> None:
        self._signs = signs
        self._free_since: dict[str, float] = {}
        self._lost = LostRuns()
        super().__init__(inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003 the signature is Dagster's
        """Make it for the data directory of the settings."""
        return cls(signs_here(), inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Expect a sign of the run, and have it executed."""
        with waiting_for_storage():  # it is asked before anything is begun
            self._signs.forget_ended(self._has_ended)
            self._signs.expect(context.dagster_run.run_id)
            super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does; Dagster's own does not."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process of a run that started lives.

        Run monitoring fails the run at every answer but ``RUNNING`` and ``SUCCESS``.
        """
        try:
            is_given = self._signs.is_given(run.run_id)
        except FileNotFoundError:
            if GRPC_INFO_TAG not in run.tags:
                return CheckRunHealthResult(WorkerStatus.RUNNING, "not launched here: nobody watches it")
            is_given = False  # it was launched here, before the data directory was lost or restored
        if is_given:
            self._free_since.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        now = time.monotonic()
        if now - self._free_since.setdefault(run.run_id, now) < BEGIN_S:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its process has yet to give a sign, or is gone")
        said = f"No process holds {self._signs.path_of(run.run_id)}: the one that executed the run is gone."
        judged = self._lost.judge(run, said)
        if judged.status is WorkerStatus.FAILED:
            del self._free_since[run.run_id]
        return judged

    def _has_ended(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        return run is None or run.is_finished


class WatchedExecutor(InProcessExecutor):
    """Executes the steps of a run inside its process, which first gives the sign that its launcher expects."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Give the sign, then do as Dagster's own."""
        run = plan_context.dagster_run
        if GRPC_INFO_TAG in run.tags and run.tags.get(PLACE_TAG) != LIVE:
            yield_to_others(load_settings().cpu_share)  # this process executes nothing else
        if GRPC_INFO_TAG in run.tags and isinstance(plan_context.instance.run_launcher, WatchedRunLauncher):
            _give(signs_here(), run.run_id)
        yield from super().execute(plan_context, execution_plan)


def _give(signs: Signs, run_id: str) -> None:
    try:
        signs.give(run_id)
    except FileNotFoundError:
        said = f"{signs.path_of(run_id)} is not there: MDP_DATA_DIR of daemon and code server must be one folder"
        raise dg.DagsterInvariantViolationError(said) from None
    except BlockingIOError:
        said = f"another process executes run {run_id} already (this one: {os.getpid()})"
        raise dg.DagsterInvariantViolationError(said) from None


def signs_here() -> Signs:
    """Return the signs in the data directory of the settings."""
    return Signs(load_settings().run_dir / "watched")


def _executor(context: dg.InitExecutorContext) -> WatchedExecutor:
    config: Mapping[str, Any] = context.executor_config
    return WatchedExecutor(RetryMode.from_config(config["retries"]) or RetryMode.ENABLED)


watched_in_process_executor = dg.ExecutorDefinition(
    name="in_process",
    config_schema=IN_PROC_CONFIG,
    executor_creation_fn=_executor,
    description="All steps in the process of the run: a process for each would cost 6 to 7 s of importing.",
)
