"""MIDI tokens by MidiTok 3, which only this folder knows. Files are read through the gate."""

from seqgen.tokenizers.midi.account import add_accounts, total_account
from seqgen.tokenizers.midi.compound import COMPOUND, CompoundTokenizer
from seqgen.tokenizers.midi.settings import settled
from seqgen.tokenizers.midi.survey import choose_settings, survey_file
from seqgen.tokenizers.midi.tokenizer import MidiTokenizer

__all__ = [
    "COMPOUND",
    "CompoundTokenizer",
    "MidiTokenizer",
    "add_accounts",
    "choose_settings",
    "settled",
    "survey_file",
    "total_account",
]
