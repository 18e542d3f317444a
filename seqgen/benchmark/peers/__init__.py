"""What the decoders are compared with."""
