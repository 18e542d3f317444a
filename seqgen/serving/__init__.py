"""The studio's server: projects, runs and sessions over HTTP. It decides nothing musical."""
