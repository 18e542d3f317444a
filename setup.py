"""Installs the `seqgen` package and its command; exact versions are in constraints.txt."""

from setuptools import find_packages, setup

setup(
    name="seqgen",
    version="0.1.0",
    description="Train a causal-linear Transformer on sequences, generate with it as an RNN",
    python_requires=">=3.11",
    packages=find_packages(include=["seqgen", "seqgen.*"]),
    install_requires=[
        "torch>=2.13",
        "pytorch-fast-transformers==0.4.0",
        "numpy>=2.0",
        "miditoolkit>=1.0.1",
        "click>=8.1",
        "matplotlib>=3.9",
        "miditok>=3.1",
        "pydantic>=2.10",
        "pytorch-lightning>=2.6,!=2.6.2,!=2.6.3",
        "pyyaml>=6.0",
        "rich>=14.0",
        "safetensors>=0.5",
        "symusic==0.5.8",
        "tensorboard>=2.19",
    ],
    extras_require={
        "chorales": ["music21>=10.0"],
        "dev": ["pytest>=9.0", "ruff>=0.17"],
    },
    entry_points={"console_scripts": ["seqgen=seqgen.commands:main"]},
)
