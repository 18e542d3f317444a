"""Installs the `seqgen` package and its command; exact versions are in constraints.txt.

The C++ operators are optional: where they cannot be built, plain torch does their work.
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py

NATIVE = Path("seqgen/native")


class BuildWithData(build_py):
    """Puts configurations and descriptions of corpora into a wheel; a clone has them beside it."""

    def run(self) -> None:
        """Copy the package, then its data."""
        super().run()
        if self.editable_mode:
            return
        for source in (*Path("configs").glob("*.yaml"), *Path("datasets").glob("*/dataset.yaml")):
            target = Path(self.build_lib, "seqgen", source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def native_operators() -> list[Extension]:
    """The C++ operators, against the installed torch; none where there is no torch to build with.

    None with COMPILE=no in the environment, which makes a wheel for every machine. Only torch's
    stable interface is used, so that a build outlives an update of torch.
    """
    torch = find_spec("torch")
    if torch is None or os.environ.get("COMPILE") == "no":
        return []
    folder = Path(torch.submodule_search_locations[0])
    return [
        Extension(
            "seqgen.native._library",
            sources=sorted(str(path) for path in NATIVE.glob("*.cpp")),
            depends=sorted(str(path) for path in NATIVE.glob("*.h")),
            include_dirs=[str(folder / "include")],
            library_dirs=[str(folder / "lib")],
            runtime_library_dirs=[str(folder / "lib")],
            libraries=["torch_cpu"],
            define_macros=[("TORCH_TARGET_VERSION", "0x020d000000000000")],  # 2.13
            extra_compile_args=[
                *("-O3", "-std=c++20", "-g0", "-fvisibility=hidden"),
                *("-fno-math-errno", "-fno-trapping-math"),  # lets loops be vectorised
            ],
            language="c++",
            optional=True,
        )
    ]


setup(
    name="seqgen",
    version="0.2.0",
    description="Train a causal-linear Transformer on sequences, generate with it as an RNN",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["seqgen", "seqgen.*"]),
    package_data={
        "seqgen": ["py.typed", "shipped/*/*", "shipped/*/tokenizer/*"],
        "seqgen.native": ["*.cpp", "*.h"],
        "seqgen.evaluation.page": ["*.j2", "*.css"],
        "seqgen.export": ["*.md", "page/*", "page/assets/*"],  # where `make studio` has built it
        "seqgen.serving": ["page/*", "page/assets/*"],  # and here
    },
    cmdclass={"build_py": BuildWithData},
    ext_modules=native_operators(),
    install_requires=[
        "torch>=2.13",
        "pytorch-fast-transformers==0.4.0",
        "numpy>=2.0",
        "miditoolkit>=1.0.1",
        "mido>=1.3",
        "click>=8.1",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "miditok>=3.1",
        "pillow>=11.0",
        "pydantic>=2.10",
        "pydivsufsort>=0.0.20",
        "pytorch-lightning>=2.6,!=2.6.2,!=2.6.3",
        "pyyaml>=6.0",
        "rich>=14.0",
        "safetensors>=0.5",
        "scipy>=1.14",
        "symusic==0.5.8",
        "tensorboard>=2.19",
    ],
    extras_require={
        "benchmark": ["transformers>=5.23,<6"],
        "chorales": ["music21>=10.0"],  # and the corpus folk
        "dev": [
            "mypy>=2.4",
            "pytest>=9.0",
            "pytest-cov>=6.0",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "types-PyYAML>=6.0",
        ],
        "gpu": ["triton>=3.5"],
        "hub": ["huggingface_hub>=2.4"],
        "images": ["scikit-learn>=1.6"],
        "onnx": ["onnx>=1.18", "onnxruntime>=1.22"],
        "scale": ["ray[data,serve]==2.60.0"],
        "sound": ["pyfluidsynth>=1.4", "pyloudnorm>=0.2", "soundfile>=0.13"],
        "studio": [
            "fastapi>=0.165",
            "prometheus_client>=0.25",
            "python-multipart>=0.0.30",
            "uvicorn>=0.54",
        ],
        "test": ["httpx>=0.28", "muspy==0.5.0", "playwright>=1.65", "schemathesis>=4.32"],
    },
    entry_points={"console_scripts": ["seqgen=seqgen.commands:main"]},
)
