"""What is measured, one file each: `check` compares outputs, `measure` gives records."""
