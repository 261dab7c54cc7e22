"""Wan's generate.py, served untouched: the real text where MUSTER_WAN_FOLDER has it, else one of the same calls.

`wan` and `xfuser` are stubs of ours in any case; described by `muster`'s own eyes, with nothing said by hand.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from scripted_service import ROOT, Gang, ScriptedService, eventually

from orchestrator.api.input_schema import Form
from orchestrator.cli.introspect import describe
from orchestrator.cli.template_files import read_template
from orchestrator.domain.template import Template

pytestmark = pytest.mark.slow
STUBS = ROOT / "tests/integration/wan"
RANKS = 2


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "wan-folder"
    shutil.copytree(STUBS, folder)
    real = os.environ.get("MUSTER_WAN_FOLDER")
    if real:
        shutil.copy(Path(real) / "generate.py", folder / "generate.py")
    return folder / "generate.py"


@pytest.mark.long
def test_generate_is_described_and_served_warm(script: Path, tmp_path: Path) -> None:
    found = describe(str(script), ["--ckpt_dir", "/models", "--ulysses_size", str(RANKS), "--prompt", "a cat"])
    assert {"task", "ckpt_dir", "offload_model", "ulysses_size", "dit_fsdp"} <= set(found["script"]["gang_args"])
    assert {"prompt", "size", "frame_num", "base_seed", "sample_steps"} <= set(found["input"]["properties"])
    assert "wan.text2video:WanT2V" in found["script"]["memoise"]
    assert list(found["script"]["outputs"]) == ["save_file"]
    args = {name: value for name, value in found["given"].items() if name in found["script"]["gang_args"]}
    config = {"handler": "inference.script.handler:ScriptHandler", "args": {"script": found["script"], "args": args}}
    service = ScriptedService(tmp_path / "outputs", config)
    gang = Gang(service, tmp_path, ranks=RANKS)
    try:
        service.wait_ready()
        for built in (1, 0):
            attempt = service.submit(prompt="a cat", base_seed=7)
            finish = service.finished(attempt)
            assert finish["outcome"] == "succeeded", finish["error"]
            assert finish["metrics"] == {"models_built": built, "models_reused": 1 - built}
            (output,) = finish["outputs"]
            assert Path(urlsplit(output["uri"]).path).read_text().startswith("[")
        bad = service.finished(service.submit(prompt="a cat", sample_solver="magic"))
        assert bad["error"]["code"] == "invalid_input"
        attempt = service.submit(prompt="a cat", sample_steps=10_000_000)
        eventually(lambda: any(one["attempts"] and one["attempts"][0]["current"] for one in service.beats), 10)
        service.words[attempt] = "cancel"
        assert service.finished(attempt, within_s=5)["outcome"] == "canceled"
        assert service.finished(service.submit(prompt="a cat"))["metrics"]["models_reused"] == 1
    finally:
        gang.kill()
        service.close()


def test_the_shipped_template_serves_the_script_warm(script: Path, tmp_path: Path) -> None:
    """With the script's place and two ranks instead of sixteen; all else as it is shipped."""
    shipped = read_template("wan21-t2v-14b-2x8")
    shipped["script"]["path"] = str(script)
    shipped["args"] |= {"ulysses_size": RANKS, "ring_size": 1}
    template = Template.model_validate(shipped | {"nodes": 1, "ranks_per_node": RANKS})
    form = Form(template.input)
    service = ScriptedService(
        tmp_path / "outputs", {"handler": template.handler, "args": template.handler_args, "data_timeout_s": 30.0}
    )
    gang = Gang(service, tmp_path, ranks=RANKS)
    try:
        service.wait_ready()
        for built in (1, 0):
            finish = service.finished(service.submit(**form.fit({"prompt": "a cat", "sample_steps": 4})))
            assert finish["outcome"] == "succeeded", finish["error"]
            assert finish["metrics"] == {"models_built": built, "models_reused": 1 - built}
            assert [one["name"] for one in finish["outputs"]] == ["video.mp4"]
        attempt = service.submit(**form.fit({"prompt": "a cat"}) | {"sample_steps": 10_000_000})
        eventually(lambda: any(one["attempts"] and one["attempts"][0]["current"] for one in service.beats), 10)
        service.words[attempt] = "cancel"
        assert service.finished(attempt, within_s=5)["outcome"] == "canceled"
    finally:
        gang.kill()
        service.close()
