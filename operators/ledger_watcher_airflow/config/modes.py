"""The choices of the configuration."""

from __future__ import annotations

from enum import Enum, EnumMeta

from ledger_watcher.errors import ConfigError

_PRODUCERS = {
    "KUBERNETES": "kubernetes_producer(image=...)",
    "AWS_EKS": "a function that makes an EksPodOperator of a ProducerCommand",
    "GCP_GKE": "a function that makes a GKEStartPodOperator of a ProducerCommand",
    "DOCKER": "docker_producer(image=...)",
    "AWS_ECS": "ecs_producer(...)",
    "GCP_CLOUD_RUN_JOB": "cloud_run_producer(...)",
    "AZURE_CONTAINER_INSTANCE": "a function that makes an AzureContainerInstancesOperator of a ProducerCommand",
}
"""What stands for the modes of astronomer-cosmos that run dbt elsewhere."""


class NoSuchMode(ConfigError, AttributeError):
    """An execution mode that there is not; says what to write instead."""


class _Modes(EnumMeta):
    def __getattr__(cls, name: str) -> object:
        members = vars(cls).get("_member_map_", {})
        if name in members:  # before Python 3.12, that is how members are found
            return members[name]
        where = name.removeprefix("WATCHER_")
        if where in _PRODUCERS:
            raise NoSuchMode(
                f"ExecutionMode.{name} is not a mode here: dbt runs once, wherever you say. Give ExecutionConfig(producer=...) {_PRODUCERS[where]}, and leave "
                "execution_mode out."
            )
        if name == "AIRFLOW_ASYNC":
            raise NoSuchMode("ExecutionMode.AIRFLOW_ASYNC is not a mode here: ExecutionMode.WATCHER holds no worker per node; write that.")
        raise AttributeError(name)


class ExecutionMode(str, Enum, metaclass=_Modes):
    """How dbt is run."""

    WATCHER = "watcher"
    """dbt runs once; one task per node mirrors the ledger."""
    WATCHER_VIRTUALENV = "watcher_virtualenv"
    """The same, with the dbt of a virtual environment that the worker makes from ``operator_args={"py_requirements": [...]}``."""
    LOCAL = "local"
    """One task per node, each of which runs dbt for its node, on a worker. There is no producer and no ledger."""
    VIRTUALENV = "virtualenv"
    """The same, with the dbt of a virtual environment."""

    @property
    def node_by_node(self) -> bool:
        """Each task runs dbt itself."""
        return self in (ExecutionMode.LOCAL, ExecutionMode.VIRTUALENV)

    @property
    def in_virtualenv(self) -> bool:
        """The worker makes the environment of dbt."""
        return self in (ExecutionMode.WATCHER_VIRTUALENV, ExecutionMode.VIRTUALENV)


class ProducerRetryOn(str, Enum):
    """What the producer's retries are for."""

    UNFINISHED = "unfinished"
    NODE_ERRORS = "node_errors"


class InvocationMode(str, Enum):
    """How dbt is started."""

    DBT_RUNNER = "dbt_runner"
    """In the process of the task that runs dbt, where dbt is installed together with Airflow."""
    SUBPROCESS = "subprocess"
    """Any dbt executable: another virtualenv, dbt Fusion."""


class TestIndirectSelection(str, Enum):
    """Which tests dbt selects together with a node."""

    __test__ = False  # its name is the users', pytest need not collect it

    EAGER = "eager"
    CAUTIOUS = "cautious"
    BUILDABLE = "buildable"
    EMPTY = "empty"


class AssetMode(str, Enum):
    """Which task tells Airflow of what dbt built."""

    PER_RUN = "per_run"
    """One task at the end, ``dbt_assets``: one worker for the run."""
    PER_NODE = "per_node"
    """Each node's own task, which then ends on a worker and has its asset as an outlet in Airflow's graph of assets."""


class LoadMode(str, Enum):
    """Where the nodes of the DAG come from. With each of them, dbt alone decides which of them ``select`` and ``exclude`` mean."""

    AUTOMATIC = "automatic"
    """What is given: a plan, an output of ``dbt ls``, a manifest. Else the project: dbt itself if there is a selection or no manifest in ``target``."""
    DBT_MANIFEST = "dbt_manifest"
    """manifest.json; for a selection, dbt is asked too."""
    DBT_LS = "dbt_ls"
    """dbt is asked (``dbt ls``) when the DAG file is parsed and the project, dbt or what it is told has changed; its answer is kept."""
    DBT_LS_FILE = "dbt_ls_file"
    """What ``dbt ls --output json`` printed into a file: exactly these nodes are drawn and built."""
    PLAN = "plan"
    """A file of ``ledger-watcher plan``, which needs neither dbt nor the project where the DAG file is parsed."""
    CUSTOM = "custom"
    """Refused: here nothing but dbt reads a project."""


def take_member(config: object, name: str, choices: type[Enum]) -> None:
    """Accept a member's value for the member: compared as it is, a word would silently mean something else."""
    value = getattr(config, name)
    try:
        object.__setattr__(config, name, choices(value))
    except ValueError as error:
        known = ", ".join(f"{choices.__name__}.{member.name}" for member in choices)
        raise ConfigError(f"{type(config).__name__}({name}={value!r}) is not known here; choose one of {known}.") from error
