"""`make check-images`: what can be known of the images without a container engine.

Reads the Dockerfiles, takes every `pip install` of theirs, carries it out in a fresh virtual environment with the paths
of the image mapped below a temporary folder, and starts the programs that the image is for. What this cannot see: the
base images themselves, and a GPU. torch, which the base of the worker image brings, is installed first.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docker"
LONGEST_S = 1800
_PINNED = re.compile(r".+(@sha256:[0-9a-f]{64}|:[^:/]*\d+\.\d+\.\d+[^:/]*)$")


@dataclass(frozen=True, kw_only=True)
class Image:
    """One Dockerfile: its instructions, in order, with the values of ARG put in."""

    name: str
    instructions: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> Image:
        arguments: dict[str, str] = {}
        found = []
        for word, rest in _lines(path.read_text()):
            if word == "ARG":
                name, _, default = rest.partition("=")
                arguments[name] = default
            found.append((word, re.sub(r"\$\{(\w+)\}", lambda m: arguments.get(m[1], m[0]), rest)))
        return cls(name=path.stem, instructions=tuple(found))

    def all(self, word: str) -> list[str]:
        return [rest for each, rest in self.instructions if each == word]

    @property
    def installs(self) -> list[list[str]]:
        """Arguments of pip, one list per `RUN … pip install …`."""
        runs = [shlex.split(rest) for rest in self.all("RUN")]
        return [run[run.index("install") :] for run in runs if "install" in run and run[0].endswith("pip")]

    @property
    def faults(self) -> list[str]:
        """What is wrong as far as the text tells."""
        bases = [one.split()[0] for one in self.all("FROM")]
        users = self.all("USER")
        return [
            *(
                f"{base} is not pinned: give a full version or a digest"
                for base in bases
                if not _PINNED.fullmatch(base)
            ),
            *(
                []
                if users and re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
                else ["USER must be numbers, and not root"]
            ),
            *([] if self.instructions[-1][0] in ("CMD", "ENTRYPOINT") else ["nothing may follow the entry point"]),
            *("ADD fetches what nobody checked: use COPY" for _ in self.all("ADD")),
            *(
                f"{one!r} runs in a shell"
                for one in self.all("ENTRYPOINT") + self.all("CMD")
                if not one.startswith("[")
            ),
        ]


def images() -> list[Image]:
    """All of the repository."""
    return [Image.read(path) for path in sorted(FOLDER.glob("*.Dockerfile"))]


PROGRAMS = {
    "service": (
        ["muster", "--version"],
        ["muster", "template", "render", "echo", "--image", "echo:1"],
        ["muster", "serve", "--help"],
        ["python", "-c", "import kubernetes, s3fs, orchestrator.service.running, job_templates.pytorchjob, migrations"],
    ),
    "worker": (
        ["python", "-m", "inference.agent", "--help"],
        ["python", "-m", "inference.recall", "--help"],
        [
            "python",
            "-c",
            "import inference.start, inference.script.handler, inference.samples.echo, inference.sdk, s3fs",
        ],
    ),
}
"""What must start in an environment made as the image is."""
BASE_BRINGS = {"service": [], "worker": ["torch"]}
ABSENT = {"service": "torch", "worker": "fastapi"}
"""What has no business there."""


def build(image: Image, folder: Path) -> None:
    """Carry out the image's installs below `folder`, then start its programs. Raises CalledProcessError."""
    venv.create(folder / "venv", with_pip=True)
    _copy_source(folder / "src")
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    if BASE_BRINGS[image.name]:
        _run([str(folder / "venv/bin/pip"), "install", "--quiet", *constraints, *BASE_BRINGS[image.name]], folder)
    for install in image.installs:
        mapped = [word.replace("/src", str(folder / "src")) for word in install]
        _run([str(folder / "venv/bin/pip"), *mapped, "--quiet"], folder)
    for program, *arguments in PROGRAMS[image.name]:
        _run([str(folder / "venv/bin" / program), *arguments], folder)
    _run(
        [
            str(folder / "venv/bin/python"),
            "-c",
            f"import importlib.util as u; assert not u.find_spec({ABSENT[image.name]!r})",
        ],
        folder,
    )


def main() -> int:
    faults = [f"{image.name}: {fault}" for image in images() for fault in image.faults]
    for fault in faults:
        _say(fault)
    if faults:
        return 1
    for image in images():
        with tempfile.TemporaryDirectory(prefix="muster-image-") as folder:
            build(image, Path(folder))
            _say(f"{image.name}: installs and starts, {_megabytes(Path(folder) / 'venv')} MB on top of its base")
    return 0


def _lines(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    for line in joined.splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _copy_source(place: Path) -> None:
    """What COPY would take: the files of the repository, less the folders of .dockerignore."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    ignored = {line.strip() for line in (ROOT / ".dockerignore").read_text().splitlines()}
    for name in filter(None, names):
        if name.split("/")[0] not in ignored and (ROOT / name).is_file():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())


def _run(command: list[str], folder: Path) -> None:
    """From an empty folder and without our own PYTHONPATH, so that only what was installed is found."""
    (folder / "empty").mkdir(exist_ok=True)
    of_pip = {
        name: value for name, value in os.environ.items() if re.match(r"PIP_|https?_proxy$|no_proxy$", name, re.I)
    }
    environment = of_pip | {"PATH": f"{folder}/venv/bin:/usr/bin:/bin", "HOME": str(folder / "empty")}
    done = subprocess.run(
        command, cwd=folder / "empty", env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    if done.returncode != 0:
        _say(f"failed: {shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        raise subprocess.CalledProcessError(done.returncode, command)


def _megabytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) >> 20


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


if __name__ == "__main__":
    sys.exit(main())
