"""What Python programs, commands and other front ends share; `seqgen` exports the main names."""
