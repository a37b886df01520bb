"""Speed of each stage beside other frameworks: `python -m tests.benchmark --help`."""

# In the order in which they are measured; --only takes these names.
STAGES = (
    "pipeline",
    "step",
    "convolutions",
    "overheads",
    "start",
    "answer",
    "build",
    "runs",
    "growth",
)
