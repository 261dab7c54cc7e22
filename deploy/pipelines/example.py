#!/usr/bin/env python3
"""A pipeline that has two pictures drawn at a time and counts their bytes. Run this to write example.yaml."""

import argparse
from pathlib import Path

from kfp import compiler, components, dsl

HERE = Path(__file__).parent
draw = components.load_component_from_file(str(HERE / "muster-request.yaml"))


@dsl.component(base_image="python:3.11-slim")
def weigh(pictures: dsl.Input[dsl.Artifact]) -> int:
    from pathlib import Path

    return sum(file.stat().st_size for file in Path(pictures.path).rglob("*") if file.is_file())


@dsl.pipeline(name="muster-digits")
def digits(url: str = "http://muster.muster-system:8380"):
    with dsl.ParallelFor([3, 8]) as digit:
        drawn = draw(template="digits", input={"digit": digit}, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, url=url)
        drawn.set_caching_options(False)  # a picture is drawn anew each time; what ran is the service's to know
        drawn.set_retry(2)  # a step that dies finds its request again; one that failed is tried again
        weigh(pictures=drawn.outputs["outputs"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write the compiled pipeline")
    parser.add_argument("file", nargs="?", type=Path, default=HERE / "example.yaml")
    compiler.Compiler().compile(digits, str(parser.parse_args().file))
