"""Learning curves for MLflow, while a sweep runs."""

import logging
import os

from raytransfer.errors import UserError, one_line
from raytransfer.sweep.curves import Logged, missing

_TRIAL = "raytransfer.trial"  # the tag of a run with the trial's identity
_PAGE = 1000
# MLflow's own patience would keep a command waiting for four minutes before it says that nobody is there.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class MLflow:
    """An experiment a sweep, named as its folder, in which every training is a run, named by its place.

    Its options are parameters, its scalars metrics against the steps, and its place is tags (treatment, target, base,
    n_layers, seed and so on) beside its identity, by which the next command knows that it is there.

    Args:
        uri: Tracking URI, whatever MLflow takes.

    Raises:
        UserError: MLflow is not installed, or does not answer there.
    """

    def __init__(self, uri: str) -> None:
        self.option = f"mlflow={uri}"
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow

            self._entities = mlflow.entities  # which is not there where a folder of this name is imported
        except Exception as error:  # what is installed by half, or beside another protobuf, raises anything
            raise missing(self.option, "mlflow", error) from error
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what fails is raised, too, and told in a line
        try:
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:  # of MLflow, or of what it opens the URI with
            raise UserError(f"{self.option} cannot be used: {one_line(error)}") from error
        self._sweep, self._experiment = "", ""
        self._begun: dict[str, str] = {}

    def turn_to(self, sweep: str) -> set[str]:
        """Trainings whose runs are finished; a run that was only begun is gone on with."""
        self._sweep, self._experiment, self._begun = sweep, "", {}
        experiment = self._client.get_experiment_by_name(sweep)
        if experiment is None:
            return set()
        self._experiment = experiment.experiment_id
        found, token = set(), None
        while True:
            runs = self._client.search_runs([self._experiment], max_results=_PAGE, page_token=token)
            for run in runs:
                trial = run.data.tags.get(_TRIAL)
                if trial is not None and run.info.status == "FINISHED":
                    found.add(trial)
                elif trial is not None:
                    self._begun[trial] = run.info.run_id
            token = runs.token
            if not token:
                return found

    def log(self, training: Logged) -> None:
        """Write a run."""
        self._experiment = self._experiment or self._client.create_experiment(self._sweep)
        if training.trial not in self._begun:
            tags = {name: str(value) for name, value in training.place.items()} | {_TRIAL: training.trial}
            run = self._client.create_run(self._experiment, run_name=training.name, tags=tags)
            self._begun[training.trial] = run.info.run_id
        run_id = self._begun[training.trial]
        time_ms = self._client.get_run(run_id).info.start_time  # written twice, a metric of the same time is one
        metrics = [
            self._entities.Metric(name, value, time_ms, step)
            for step, scalars in training.curve
            for name, value in scalars.items()
        ]
        params = [self._entities.Param(name, str(value)) for name, value in training.options.items()]
        self._client.log_batch(run_id, params=params)
        for start in range(0, len(metrics), _PAGE):  # more is no batch
            self._client.log_batch(run_id, metrics=metrics[start : start + _PAGE])
        self._client.set_terminated(run_id)
