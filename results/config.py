"""`SearchConfig`: everything needed to repeat a run, as `config.yaml` in its folder."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

import yaml

from nas.errors import FileError, UsageError
from nas.files import read_text, write_text
from nas.predictors.latency_predictor import MIN_NETWORKS
from nas.predictors.target import Target
from nas.results.metrics import ENERGY, LATENCY, PLACED, canonical_budgets, canonical_objectives
from nas.search.cheap_scores import ACCURACY, LOSS, require_cheap_score
from nas.search.screening import Screening
from nas.search.storage import absolute, withheld
from nas.search.types import Budgets
from nas.search_spaces.space import SearchSpace
from nas.supernet.adaptation import RATE, Adaptation
from nas.supernet.finetune import FinetuneRecipe
from nas.supernet.recipe import TrainingRecipe

FORMAT = "nas-run"
VERSION = 2
DEFAULT_STRATEGY = "evolution"
_LEAST = {"evaluations": 1, "workers": 1, "threads": 1, "profile_networks": MIN_NETWORKS, "profile_held_out": 2}
_PACKAGES = ("torch", "optuna", "numpy", "onnxruntime", "ray")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What a run was asked for. `budgets` are in SI units; `data_fingerprint` is filled in when the data has been read.

    `target` is what `latency` means among budgets and objectives; `latency@TARGET` names others; each is profiled, predicted
    and verified (`latencies`), and so are `energy` and `energy@TARGET`. `latency_tables` are files of `nas profile` by the
    names of these latencies. With `screen`, candidates are first judged by their loss or accuracy on so many validation images,
    or by a zero-cost proxy (`screen_by`), and the best `promote` of them are scored on all. Before that, a candidate
    is trained for `adapt` steps at a peak rate of `adapt_rate`, from the share `adapt_keep` of its weights. `origins` are runs
    whose candidates this one starts from, `supernet` is the run whose weights it takes, `supernet_digest` these weights, filled
    in when the run starts. `storage` loses its password: `nas.search.storage.withheld`. `device` is where networks are trained
    (`nas.results.training_device`); they are scored and exported on the CPU.
    """

    space: Mapping[str, Any]
    data: str = "digits"
    train_images: int | None = None
    validation_images: int | None = None
    target: str = "cpu:eager"
    budgets: Mapping[str, float] = field(default_factory=dict)
    strategy: str = DEFAULT_STRATEGY
    objectives: tuple[str, ...] = ("accuracy",)
    evaluations: int = 120
    seed: int = 0
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    finetuning: FinetuneRecipe = field(default_factory=FinetuneRecipe)
    profile_networks: int | None = None
    profile_held_out: int | None = None
    profile_seconds: float | None = None
    latency_tables: Mapping[str, str] = field(default_factory=dict)
    screen: int | None = None
    screen_by: str = LOSS
    promote: float = 0.25
    adapt: int = 0
    adapt_rate: float = RATE
    adapt_keep: float = 1.0
    origins: tuple[str, ...] = ()
    supernet: str | None = None
    supernet_digest: str = ""
    ray: str | None = None
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    storage: str | None = None
    accept_noise: bool = False
    data_fingerprint: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UsageError or UnknownNameError for a value of the wrong type, too small a number, or an unknown name."""
        for record in (self, self.training, self.finetuning):
            _require_types(record)
        for name, least in _LEAST.items():
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for what, recipe, epochs in (("training", self.training, 1), ("fine-tuning", self.finetuning, 0)):
            if recipe.epochs < epochs or recipe.batch < 1:
                raise UsageError(
                    f"{what} needs at least {epochs} epochs and a batch of 1, got {recipe.epochs} and {recipe.batch}"
                )
        for name in ("train_images", "validation_images", "screen"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        self._name_metrics()
        Screening(self.promote)
        require_cheap_score(self.screen_by, self.screen)
        self.adaptation()
        if self.storage is not None:
            self._withhold_password(self.storage)
        if self.workers > 1 and self.ray is None:
            raise UsageError(f"{self.workers} workers need Ray: add --ray local or an address, or leave --workers away")

    def _withhold_password(self, given: str) -> None:
        """Keep the storage without its password, which no file of a run holds, in the command line too."""
        place = absolute(given)
        object.__setattr__(self, "storage", withheld(place))
        if self.storage != place:
            for written in (given, given.replace("'", "'\"'\"'")):  # as `shlex.join` quotes it
                object.__setattr__(self, "command", self.command.replace(written, str(self.storage)))

    def _name_metrics(self) -> None:
        """Write budgets and objectives under their canonical names. Raises what `nas.results.metrics` raises."""
        own = Target.parse(self.target)
        object.__setattr__(self, "target", str(own))
        object.__setattr__(self, "budgets", canonical_budgets(self.budgets, own))
        object.__setattr__(self, "objectives", canonical_objectives(self.objectives, own))
        Budgets(self.budgets)
        strange = [name for name in self.latency_tables if name not in self.latencies()]
        if strange:
            raise UsageError(f"a latency table is given for {strange[0]!r}, which is none of {', '.join(self.latencies())}")

    def latencies(self) -> dict[str, Target]:
        """The targets of the run by the name of their latency: `latency` first, then those of other budgets and objectives."""
        own = Target.parse(self.target)
        names = [name.partition("@") for name in (*self.budgets, *self.objectives)]
        others = [place for kind, _, place in names if kind in PLACED and place]
        return {LATENCY: own} | {f"{LATENCY}@{place}": Target.parse(place) for place in others}

    def energies(self) -> dict[str, str]:
        """The names of the energies that have a budget or are an objective, by the name of their target's latency."""
        names = [name for name in (*self.budgets, *self.objectives) if name.partition("@")[0] == ENERGY]
        return {LATENCY + name.removeprefix(ENERGY): name for name in names}

    def search_space(self) -> SearchSpace:
        """The space as an object."""
        return SearchSpace.from_mapping(self.space)

    def identity(self) -> str:
        """A digest of what the accuracies of candidates depend on.

        Others may write to a shared storage: there the supernet's weights, the targets and the budgets are part of it.
        """
        what = [
            _plain(self.space),
            self.data,
            self.data_fingerprint,
            self.training.decisive(),
            self.seed,
            self.threads,
            *self.screened_as(),
            *self.adapted_as(),
            *([] if self.storage is None else [self.supernet_digest, _named(self.latencies()), dict(self.budgets)]),
        ]
        return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()

    def screened_as(self) -> tuple[int | str, ...]:
        """What cheap scores mean; nothing where there are none. Those of one meaning may be compared."""
        if self.screen is None:
            return ()
        return (self.screen,) if self.screen_by == ACCURACY else (self.screen, self.screen_by)

    def adaptation(self) -> Adaptation:
        """How a candidate is trained before it is scored: as the supernet was, but for few steps. Raises UsageError."""
        return Adaptation.of(self.training, self.adapt, self.adapt_rate, self.adapt_keep)

    def adapted_as(self) -> tuple[dict[str, Any], ...]:
        """What scores mean beside the supernet's weights; nothing where candidates are not adapted."""
        return (self.adaptation().identity(),) if self.adapt else ()

    def to_mapping(self) -> dict[str, Any]:
        """All fields as plain values."""
        return dict(_plain(dataclasses.asdict(self)))

    def save(self, path: Path) -> None:
        """Write the YAML atomically."""
        data = {"format": FORMAT, "version": VERSION, **self.to_mapping()}
        write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The config of a run. Raises FileError where it is missing, damaged or of another version."""
        try:
            data = yaml.safe_load(read_text(path, "run configuration"))
        except yaml.YAMLError as error:
            raise FileError(f"run configuration {path} is damaged: {' '.join(str(error).split())}") from error
        if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") not in (1, VERSION):
            raise FileError(f"{path} is no run configuration of this version; start a new run")
        fields = {name: value for name, value in data.items() if name not in ("format", "version")}
        fields.setdefault("screen_by", ACCURACY)
        if data["version"] == 1:
            table = fields.pop("latency_table", None)
            fields["latency_tables"] = {} if table is None else {LATENCY: table}
        try:
            fields["training"] = TrainingRecipe(**fields["training"])
            fields["finetuning"] = FinetuneRecipe(**fields["finetuning"])
            for name in ("objectives", "origins"):
                fields[name] = tuple(fields.get(name, ()))
            found = cls(**fields)
            found.search_space()
        except KeyError as error:
            raise FileError(f"run configuration {path} is damaged: it lacks {error}; start a new run") from error
        except (TypeError, UsageError) as error:
            raise FileError(f"run configuration {path} is damaged: {error}; start a new run") from error
        return found


def strategy_for(objectives: Sequence[str]) -> str:
    """The strategy of a run that names none: with several objectives one that follows all of them."""
    return DEFAULT_STRATEGY if len(objectives) < 2 else "auto"


def require_screened(options: Iterable[str], screen: int | None) -> None:
    """Raise UsageError where `promote` or `screen_by` is among the options that were given, but candidates are not screened."""
    told = {
        "promote": "promote is the share of the screened candidates to score on all images",
        "screen_by": "screen-by is the score that candidates are screened by",
    }
    for name, what in told.items():
        if name in options and screen is None:
            raise UsageError(f"{what}, and none are screened: give screen too, e.g. --screen 64")


def require_adapted(options: Iterable[str], steps: int) -> None:
    """Raise UsageError where options of an adaptation are among those that were given, but candidates are not adapted."""
    told = {
        "adapt_rate": "adapt-rate is the learning rate of an adaptation",
        "adapt_keep": "adapt-keep is the share of the weights that an adaptation begins with",
    }
    for name, what in told.items():
        if name in options and not steps:
            raise UsageError(f"{what}, and there is none: give adapt too, e.g. --adapt 40")


def versions() -> dict[str, str]:
    """The versions that the results depend on."""
    return {"nas": version("hybrid-nas"), "python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _require_types(record: object) -> None:
    """Raise UsageError for a field that does not hold its declared type; a whole number is a float too."""
    for name, hint in get_type_hints(type(record)).items():
        kinds = [get_origin(kind) or kind for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,))]
        value = getattr(record, name)
        fits = any(isinstance(value, (int, float) if kind is float else kind) for kind in kinds)
        if not fits or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
            raise UsageError(f"{name} must be of type {wanted}, got {value!r}")


def _named(targets: Mapping[str, Target]) -> dict[str, str]:
    return {metric: str(target) for metric, target in targets.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
