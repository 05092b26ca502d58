"""Flagfiles, artefacts and benchmarks: what is run with grokjax, and what came out."""
