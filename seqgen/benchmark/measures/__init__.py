"""One file per measure: `check` compares outputs before anything is timed, `measure` times."""
