"""`seqgen export`: a trained model in a form that others can use."""

from pathlib import Path

import click


@click.command()
@click.argument("run", required=False)
@click.option(
    "--hf",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write a folder as Hugging Face has them: weights, configuration, tokenizer and a model "
    "card with what is known of the run. Every command takes such a folder as RUN.",
)
@click.option(
    "--onnx",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write ONNX graphs of a step and of the prefill, in float32 and with 8-bit weights, each "
    "compared with the reference decoder; with the vocabulary, its grammar and a README.",
)
@click.option(
    "--web",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write a page that needs no server: a folder of static files for any web space, in which "
    "the model generates, plays and saves MIDI in the browser.",
)
@click.option(
    "--weights",
    type=click.Choice(("float32", "bf16")),
    default="float32",
    show_default=True,
    help="Number format of the matrices of --hf; bf16 halves it and rounds them.",
)
@click.option(
    "--checkpoint",
    type=click.Choice(("best", "last")),
    default="best",
    show_default=True,
    help="Take the model with the best validation loss, or the newest.",
)
def export(
    run: str | None,
    hf: Path | None,
    onnx: Path | None,
    web: Path | None,
    weights: str,
    checkpoint: str,
) -> None:
    """Write a trained RUN (a run folder; by default the newest one) in a form for others.

    \b
    python cli.py export runs/mine --hf mine
    python cli.py generate mine
    python cli.py export runs/mine --onnx mine-onnx
    python cli.py export runs/mine --web mine-web
    """
    from seqgen.api.places import find_model, model_name
    from seqgen.commands.settings import say
    from seqgen.export.folder import export_folder
    from seqgen.export.onnx import export_onnx
    from seqgen.export.web import export_web

    if hf is None and onnx is None and web is None:
        raise click.UsageError("say what to write: --hf DIR, --onnx DIR or --web DIR")
    path = find_model(run)
    if hf is not None:
        export_folder(path, hf, weights=weights, checkpoint=checkpoint)
        say(f"{model_name(path)} is now also in {hf} ({_size(hf)}), with a model card, README.md")
    if onnx is not None:
        told = export_onnx(path, onnx, checkpoint=checkpoint)
        exact, rounded = told.bits
        say(f"{model_name(path)} is now also in {onnx} ({_size(onnx)})")
        say(
            f"  its float32 graphs differ from the reference decoder by {told.difference:.1e} of "
            f"the largest logit, over {told.n_positions} positions"
        )
        say(f"  on {told.source}: {exact:.4f} bits per token, with 8-bit weights {rounded:.4f}")
    if web is not None:
        sound = export_web(path, web, name=Path(model_name(path)).name, checkpoint=checkpoint)
        say(f"{model_name(path)} is now also a page in {web} ({_size(web)})")
        if sound is None:
            say("  it plays a plain synthesizer: no soundfont of at most 8 MB was found")
        else:
            say(f"  it plays with the sounds of {sound.name}")
        say(f"  to try it: python -m http.server -d {web}, and open http://localhost:8000/")


def _size(folder: Path) -> str:
    n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{n_bytes / 1e6:.1f} MB"
