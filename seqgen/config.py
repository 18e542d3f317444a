"""The configuration of a run: frozen sections, strictly read from YAML and `key=value` settings."""

import difflib
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from seqgen.errors import UserError

Share = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
DecayExponent = Annotated[float, Field(ge=0.1, le=20)]
FILES, LINES = "files", "lines"  # of data.pairs
FALLING = ("cosine", "linear")  # schedules that have an end
METRE = r"^([1-9]|[12]\d|3[0-2])/(1|2|4|8|16|32)$"  # a time signature


class ConfigSection(BaseModel):
    """A frozen group of settings that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class RunConfig(ConfigSection):
    """The folder of a run, and its random seed."""

    dir: str | None = None  # run folder; None: runs/<name of the config file>
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class DataConfig(ConfigSection):
    """The files to learn from, their splits and their augmentation."""

    # A folder, a file or a corpus in datasets/; or several: data.source=[FOLDER1,FOLDER2]
    source: str | list[str] = "chorales"
    prepared_dir: str = "prepared"  # prepared data goes to <prepared_dir>/<source>-<tokenizer>
    validation: Share = 0.1  # share of source files, by a stable hash of their content
    test: Share = 0.1
    group_duplicates: bool = True  # files that share most of their notes stay in one split
    transpose: Annotated[int, Field(ge=0, le=12)] = 0  # training pieces also ±1 … ±n semitones
    velocity: Annotated[int, Field(ge=0, le=40)] = 0  # each variant louder or softer by up to ±n
    # What a model learns to do, with the share of its windows: {continue: 0.5, infill: 0.5}
    tasks: dict[str, PositiveFloat] = {}
    controls: list[str] = []  # what can be asked for: key, chords, density …; or [all]
    # A source and what is to be written for it. Parts of a file: soprano -> alto, tenor, bass;
    # or NAME.source.EXT and NAME.target.EXT: files; or each line of two such texts: lines
    pairs: str | None = None
    workers: Annotated[int, Field(ge=0)] = 0  # processes that read files; 0: one per core

    @field_validator("tasks", "controls", mode="before")
    @classmethod
    def _are_in_brackets(cls, value: object, field: ValidationInfo) -> object:
        if field.field_name == "controls" and not isinstance(value, list):
            raise ValueError("give names in brackets: [key, chords], or [all]")
        are_shares = isinstance(value, dict) and None not in value.values()
        if field.field_name == "tasks" and not are_shares:
            raise ValueError(
                "give a share for each task, a space after each colon: {continue: 0.5, infill: 0.5}"
            )
        return value

    @field_validator("pairs")
    @classmethod
    def _has_two_sides(cls, value: str | None) -> str | None:
        sides = [] if value is None else [side.strip() for side in value.split("->")]
        if value not in (None, FILES, LINES) and (len(sides) != 2 or not all(sides)):
            raise ValueError(
                f"give {FILES} or {LINES}, or parts on both sides of an arrow, as in soprano -> "
                f"alto, tenor, bass"
            )
        return value

    @field_validator("source", mode="before")
    @classmethod
    def _names_a_source(cls, value: object) -> object:
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError("give the name of a folder, a file or a corpus, or a list of names")
        return value

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "DataConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave a share for training")
        return self


class LimitsConfig(ConfigSection):
    """Limits for each source file; files beyond them are skipped and listed."""

    max_file_bytes: PositiveInt = 5_000_000
    max_tracks: PositiveInt = 500
    max_events: PositiveInt = 500_000  # the reader needs about 300 bytes for each
    max_notes: PositiveInt = 100_000
    min_notes: PositiveInt = 1
    max_minutes: PositiveFloat = 60.0
    max_pixels: PositiveInt = 100_000  # of an image: each is a token, or three
    max_beats: PositiveInt = 30_000  # quarter notes: an hour at 500 of them per minute
    max_notes_on_one_key: PositiveInt = 256  # at the same time; reading them takes quadratic time
    max_read_seconds: PositiveInt = 300  # of processor time to prepare one file
    max_memory_bytes: PositiveInt = 2_000_000_000  # to prepare one file; enforced on Linux only

    def named(self, name: str) -> str:
        """Return a limit as it is written on the command line: "limits.max_notes=100000"."""
        return f"limits.{name}={getattr(self, name)}"


class TokenizerConfig(ConfigSection):
    """How files become token ids. What is null is chosen from the corpus when it is prepared."""

    type: str = "remi"  # one of `seqgen.tokenizers.TYPES`
    bpe_vocab_size: PositiveInt | None = None  # train byte-pair encoding up to this many ids
    parts: Literal["one", "tracks"] | None = None  # one: pitched tracks merged, drums left out
    part_names: list[str] | None = None  # with tracks: program, and role or number: "40", "0.2"
    layout: Literal["bars", "stream"] = "bars"  # of tracks in remi: bar by bar, or MidiTok's stream
    quotes: bool | None = None  # tell a bar that repeats an earlier one as a quote of it
    quote_bars: Annotated[int, Field(ge=1, le=1024)] | None = None  # how far back quotes reach
    use_velocities: bool | None = None
    use_tempos: bool | None = None
    use_time_signatures: bool | None = None
    use_sustain_pedals: bool | None = None
    use_pitch_bends: bool | None = None
    n_velocities: Annotated[int, Field(ge=1, le=127)] = 16
    positions_per_beat: Annotated[int, Field(ge=1, le=24)] | None = None
    max_note_beats: Annotated[int, Field(ge=1, le=64)] | None = None
    max_bars: Annotated[int, Field(ge=1, le=10_000)] | None = None  # that octuple can number
    field_order: list[str] | None = None  # of compound words, after kind; the others come last
    tempo_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    time_signatures: list[Annotated[str, Field(pattern=METRE)]] | None = None  # such as "9/8"
    tempo: Annotated[float, Field(ge=10, le=500)] | None = None  # of files without tempo tokens
    velocity: Annotated[int, Field(ge=1, le=127)] | None = None  # of files without velocity tokens
    marks: list[str] = []  # tokens that are given and never drawn; they follow from data.tasks
    # Of pixels: columns and rows; 1 for grey or 3 for colour; and levels of brightness
    image_size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    image_channels: Literal[1, 3] | None = None
    image_levels: Annotated[int, Field(ge=2, le=256)] | None = None
    levels: dict[str, list[float]] = {}  # of controls: the borders between their classes

    @model_validator(mode="after")
    def _tempos_are_in_order(self) -> "TokenizerConfig":
        if self.tempo_range and not 1 <= self.tempo_range[0] <= self.tempo_range[1] <= 1000:
            raise ValueError(f"tempo_range {self.tempo_range} must be two tempos in order")
        return self

    @model_validator(mode="after")
    def _only_compound_words_have_fields(self) -> "TokenizerConfig":
        if self.field_order and self.type not in ("cpword", "octuple"):
            raise ValueError(
                f"field_order is for tokens of several fields, and type={self.type} has one: use "
                f"type=cpword or octuple, or leave it out"
            )
        return self


class ModelConfig(ConfigSection):
    """Everything that both forms of a model must share to compute the same."""

    # With data.pairs: decoder takes the source as a prefix, encoder-decoder reads it both ways
    kind: Literal["decoder", "encoder-decoder"] = "decoder"
    d_model: PositiveInt = 128
    n_layers: PositiveInt = 4
    n_heads: PositiveInt = 4
    d_ff: PositiveInt | None = None  # None: 4 × d_model
    dropout: Share = 0.1
    activation: Literal["relu", "gelu"] = "gelu"
    attention: Literal["causal-linear", "softmax"] = "causal-linear"  # softmax: the baseline
    feature_map: Literal["elu+1", "relu", "dpfp", "hedgehog"] = "elu+1"  # of causal-linear alone
    decay: Literal["none", "fixed", "learned"] = "none"  # of causal-linear's sums, for each head
    # e of the first and the last head: γ = 1 - 2^-e, a half-life of about 0.7 · 2^e positions. With
    # `learned` that is where training starts.
    decay_range: Annotated[list[DecayExponent], Field(min_length=2, max_length=2)] = [3.0, 8.0]
    heads_without_decay: Annotated[int, Field(ge=0)] = 0  # the last ones of each layer: γ = 1
    # bars: the index from each bar on; bar-numbers: how many bars there were so far; axes: a vector
    # that is learned for each row, column … of pieces that have them
    positions: Literal["none", "sinusoidal", "bars", "bar-numbers", "learned", "axes"] = "none"
    max_positions: PositiveInt = 4096  # size of the table of learned positions; else unused
    conv_width: Annotated[int, Field(ge=0, le=64)] = 5  # of the short convolution; 0: none
    field_widths: dict[str, PositiveInt] = {}  # of the embeddings of compound tokens; else d_model

    @field_validator("decay_range")
    @classmethod
    def _decay_slows_down(cls, value: list[float]) -> list[float]:
        if value[0] > value[1]:
            raise ValueError("the first head forgets fastest: give the smaller number first")
        return value

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelConfig":
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} must be a multiple of n_heads {self.n_heads}")
        if self.positions in ("sinusoidal", "bars", "bar-numbers") and self.d_model % 2:
            raise ValueError(
                f"model.positions={self.positions} needs an even d_model, got {self.d_model}"
            )
        return self

    @model_validator(mode="after")
    def _decay_fits_the_heads(self) -> "ModelConfig":
        if self.decay != "none" and self.attention != "causal-linear":
            raise ValueError(
                f"model.decay={self.decay} is for causal-linear attention: with model.attention="
                f"{self.attention} set model.decay=none"
            )
        if self.decay != "none" and self.heads_without_decay >= self.n_heads:
            raise ValueError(
                f"heads_without_decay {self.heads_without_decay} must be less than n_heads "
                f"{self.n_heads}; for no decay at all, set model.decay=none"
            )
        return self

    @property
    def forgets(self) -> bool:
        """Whether all sums decay by themselves, so that a stream of any length needs no window."""
        return self.decay != "none" and self.heads_without_decay == 0


class AttentionConfig(ConfigSection):
    """The kernel of attention in the parallel form; the results are the same with each."""

    kernel: Literal["auto", "naive", "chunked", "native", "triton"] = "auto"


class TrainConfig(ConfigSection):
    """How the weights are learned."""

    max_steps: PositiveInt = 1000
    batch_size: PositiveInt = 8  # rows per step, over all devices and micro-batches
    accumulate: PositiveInt = 1  # micro-batches per step (gradient accumulation)
    context_length: Annotated[int, Field(ge=2)] = 512  # T: targets in one training window
    packing: bool = True  # short pieces share rows as separate segments
    carry_state: bool = False  # consecutive windows of a piece, each from the state of the last
    learning_rate: PositiveFloat = 1e-3
    learning_rates: dict[str, Annotated[float, Field(ge=0)]] = {}  # by pattern of parameter name
    freeze: list[str] = []  # patterns of parameter names that do not learn
    schedule: Literal["cosine", "linear", "inverse-sqrt", "constant"] = "cosine"
    schedule_steps: PositiveInt | list[PositiveInt] | None = None  # null: max_steps; schedule_ends
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    final_learning_rate: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the peak at the end
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.98
    grad_clip: Annotated[float, Field(ge=0)] = 1.0  # norm; 0: no clipping
    label_smoothing: Share = 0.0
    validate_every: PositiveInt = 100
    validation_tokens: PositiveInt = 200_000  # at most this many targets per validation
    early_stopping: PositiveInt | None = None  # stop after this many validations without progress
    checkpoint_every: PositiveInt = 100
    log_every: PositiveInt = 10
    sample_tokens: Annotated[int, Field(ge=0)] = 256  # of the sample at validation; 0: no sample
    ngram_models: bool = True  # print n-gram losses on the same split at the end
    weight_formats: bool = True  # measure at the end what weights of fewer bits cost
    init_from: str | None = None  # run folder whose weights, tokenizer and sizes to start from
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    devices: PositiveInt | list[int] | str = "auto"
    strategy: str = "auto"
    precision: str = "32-true"
    recompute: bool = False  # compute activations again in the backward pass: less memory, slower
    compile: bool = False  # torch.compile the stack: half a minute at the start; no gain on CPUs

    @property
    def schedule_ends(self) -> list[int]:
        """Steps at which `cosine` and `linear` have fallen to the final learning rate.

        By default that is where training ends. With several ends, warm-up and decay begin again
        after each but the last. A resumed run keeps its ends; where `max_steps` is raised beyond
        the last of them, the new `max_steps` becomes one more, unless `schedule_steps` is given.
        """
        steps = self.schedule_steps or self.max_steps
        return steps if isinstance(steps, list) else [steps]

    @model_validator(mode="after")
    def _schedule_reaches_the_end(self) -> "TrainConfig":
        ends = self.schedule_ends
        if any(a >= b for a, b in pairwise(ends)) or self.schedule_steps == []:
            raise ValueError(f"schedule_steps {ends} must be steps in ascending order")
        stops = self.schedule in FALLING and self.final_learning_rate == 0
        if stops and ends[-1] < self.max_steps:
            raise ValueError(
                f"the learning rate is 0 from train.schedule_steps={ends[-1]} on, before "
                f"train.max_steps={self.max_steps}: leave schedule_steps out, or set "
                f"train.final_learning_rate (0.1 is a tenth of the peak)"
            )
        return self


class Config(ConfigSection):
    """The configuration of one run."""

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    limits: LimitsConfig = LimitsConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    attention: AttentionConfig = AttentionConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Config":
        longest = max(self.train.context_length, self.train.sample_tokens)
        if self.model.positions == "learned" and self.model.max_positions < longest:
            raise ValueError(
                f"model.max_positions={self.model.max_positions} must reach "
                f"train.context_length and train.sample_tokens, {longest}"
            )
        if self.train.carry_state and self.model.positions in ("learned", "axes"):
            raise ValueError(
                f"train.carry_state reaches any position and model.positions="
                f"{self.model.positions} does not: choose none or sinusoidal"
            )
        if self.train.carry_state and self.model.attention != "causal-linear":
            raise ValueError(
                f"train.carry_state needs a state that does not grow: model.attention="
                f"{self.model.attention} has none"
            )
        if self.train.carry_state and (self.data.tasks or self.data.controls):
            raise ValueError(
                "train.carry_state goes through pieces as they are: leave it out, or leave out "
                "data.tasks and data.controls"
            )
        if self.model.kind != "decoder" and self.data.pairs is None:
            raise ValueError(
                f"model.kind={self.model.kind} learns from pairs of a source and a target: set "
                f"data.pairs"
            )
        if self.data.pairs is not None:
            for key, is_set in {
                "data.tasks": self.data.tasks,
                "data.controls": self.data.controls,
                "train.carry_state": self.train.carry_state,
                "model.positions=learned": self.model.positions == "learned",
            }.items():
                if is_set:
                    raise ValueError(f"data.pairs excludes {key}: leave that out")
        if self.train.recompute and self.train.compile:
            raise ValueError(
                "train.recompute and train.compile exclude each other: layers that are computed "
                "again are not compiled"
            )
        if self.data.velocity and self.tokenizer.use_velocities is False:
            raise ValueError("data.velocity changes nothing without tokenizer.use_velocities=true")
        return self


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (None: all defaults), apply `section.key=value` arguments, check everything.

    Raises:
        UserError: names the key, the value and what is accepted.
    """
    values = _read_yaml(path) if path else {}
    for override in overrides:
        _apply(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        # A key that takes several types fails once for each; the first says enough.
        by_key = {problem["loc"][:2]: _explain(problem) for problem in reversed(error.errors())}
        given = override_keys(overrides)
        in_file = [key for key in by_key if len(key) == 2 and "{}.{}".format(*key) not in given]
        name = f"{path}: " if path and (in_file or not given) else ""
        raise UserError(name + "; ".join(reversed(by_key.values()))) from None


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration as YAML that `load_config` reads back."""
    path.write_text(yaml.safe_dump(config.model_dump(), sort_keys=False))


def override_keys(overrides: Sequence[str]) -> set[str]:
    """Return the dotted keys that `key=value` arguments set."""
    return {override.partition("=")[0] for override in overrides}


def beyond_defaults(config: Config) -> dict[str, dict]:
    """Return the settings of a configuration that differ from the defaults, by section and key."""
    values, defaults = config.model_dump(), Config().model_dump()
    changed = {
        section: {key: value for key, value in keys.items() if value != defaults[section][key]}
        for section, keys in values.items()
    }
    return {section: keys for section, keys in changed.items() if keys}


class _Loader(yaml.SafeLoader):
    """Scalars as in YAML 1.2: 3e-4 is a number, True is a boolean, `no` is a word."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"^(?:null|Null|NULL|~|)$", ["n", "N", "~", ""]),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9][0-9_]*$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def _read_yaml(path: Path) -> dict:
    try:
        values = yaml.load(path.read_text(), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"no configuration file {path}") from None
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # odd tags too
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as `train:`, got {values!r}")
    return values


def _apply(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not equals or not dot or not name:
        raise UserError(f"{override!r} is not of the form section.key=value (train.max_steps=200)")
    try:
        value = _read_value(section, name, text)
    except yaml.YAMLError:
        raise UserError(f"{key}: cannot read the value {text!r}") from None
    group = values.setdefault(section, {})
    if not isinstance(group, dict):
        raise UserError(f"{section} is a section; set its keys, as in {section}.key=value")
    group[name] = value


def _read_value(section: str, name: str, text: str) -> object:
    """Read a value as YAML; a text key takes it as it is, since a path may look like YAML.

    A key that takes a text or a list of them takes `[a, b]` as a list, of texts alone.
    """
    annotation = _annotation((section, name))
    if annotation == str | list[str]:
        return yaml.load(text, Loader=yaml.BaseLoader) if text.startswith("[") else text
    if annotation is str or (annotation == str | None and text != "null"):
        return text
    return yaml.load(text, Loader=_Loader)


def _annotation(location: Sequence) -> object:
    """Return the type of the key at (section, name, …); None where there is no such key."""
    if len(location) < 2 or location[0] not in Config.model_fields:
        return None
    section = cast(type[BaseModel], Config.model_fields[location[0]].annotation)
    field = section.model_fields.get(location[1])
    return None if field is None else field.annotation


def _explain(problem: dict) -> str:
    key = ".".join(str(part) for part in problem["loc"] if part not in ("constrained-int", "str"))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{key} is not a known key; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if problem["type"] == "bool_type":
        message += " (true or false)"
    if type(None) in get_args(_annotation(problem["loc"])):
        message += ", or null"
    if isinstance(problem["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key} = {problem['input']!r}: {message}"


def _known_keys(location: tuple) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        section = cast(type[BaseModel], section.model_fields[part].annotation)
    return list(section.model_fields)
