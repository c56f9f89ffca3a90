"""The image of ``deploy/Dockerfile`` made and run without a container engine: folders, mounts, namespaces of Linux.

Each step is carried out as it is written, in a root file system of its own that has this machine's system files, with
two exceptions: Debian's packages are this machine's, and the locked packages are not installed again but lent by this
environment, which has the same versions (a test compares them). A container runs as the image says: its user, no
capability, nothing that can be written but what is mounted. Not here: what the file says (``dockerfile``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mdp.config.settings import PROJECT_ROOT
from mdp_tests.deploy.dockerfile import DOCKERFILE, Stage, Step, context_files, read_dockerfile

_PYTHON = Path(sys.base_prefix)
_PACKAGES = Path(sysconfig.get_paths()["purelib"])
_LENT = "/opt/lent"
"""Where a container finds the packages of this environment; no image has it."""

_NAMED = "/opt/named"
"""Where the base image's ``python`` is on a machine whose own Python is called only ``python3``, as Debian's is."""

_OF_THIS_MACHINE = {"LD_LIBRARY_PATH": "/usr/local/lib"}
"""Its Python looks for its library where it was built."""

_MOUNTED = """
set -eu
cd "$1"; shift
for name in usr bin sbin lib lib64; do
  if [ -L "/$name" ]; then cp -P "/$name" "./$name" 2>/dev/null || :; elif [ -d "/$name" ]; then
    mkdir -p "./$name"; mount --bind "/$name" "./$name"; fi
done
mount -o remount,bind,ro ./usr
mount --bind "$PYTHON" ./usr/local
mount -o remount,bind,ro ./usr/local
mkdir -p .LENT proc dev/shm tmp
mount --bind "$PACKAGES" .LENT
mount -t proc proc ./proc
for name in null zero random urandom; do : > "./dev/$name"; mount --bind "/dev/$name" "./dev/$name"; done
for name in tmp dev/shm; do mount -t tmpfs tmpfs "./$name"; chmod 1777 "./$name"; done
""".replace("LENT", _LENT)

_READ_ONLY = """
mount --bind "$DATA" ./data
mount --rbind "$PWD" "$PWD"; cd "$PWD"
mount -o remount,bind,ro "$PWD"
"""


@cache
def may_contain() -> bool:
    """Tell whether this user may make file systems and namespaces of their own."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    tried = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@dataclass
class Image:
    """What was built.

    Attributes:
        root: Its files.
        stage: What its last stage says: user, command, environment.
        skipped: Steps that were not carried out as they are written.
    """

    root: Path
    stage: Stage
    skipped: list[Step] = field(default_factory=list)

    def command(self, words: Sequence[str], data: Path, environment: Mapping[str, str]) -> list[str]:
        """Return what runs a command in a container, as number 1 of its process tree."""
        user, _, group = self.stage.last("USER").text.partition(":")
        script = (
            f"{_MOUNTED}{_READ_ONLY}"
            f"exec env -i {_quoted(environment)} /usr/sbin/chroot . "
            f"setpriv --reuid {user} --regid {group} --clear-groups "
            f'--no-new-privs --bounding-set=-all --inh-caps=-all sh -c \'cd "$0" && exec "$@"\' '
            f'{self.stage.last("WORKDIR").text} "$@"'
        )
        outside = {"PYTHON": str(_PYTHON), "PACKAGES": str(_PACKAGES), "DATA": str(data), "PATH": os.environ["PATH"]}
        return [
            "env", "-i", *(f"{key}={value}" for key, value in outside.items()),
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", str(self.root), *words,
        ]  # fmt: skip

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**_OF_THIS_MACHINE, **self.stage.environment(), **(more or {})}

    def run(
        self, *words: str, data: Path, more: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = self.command(words, data, self.environment(more))
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)

    def start(self, *words: str, data: Path, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command that stays."""
        command = self.command(words, data, self.environment(more))
        return subprocess.Popen(
            command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


def build(folder: Path) -> Image:
    """Carry out the Dockerfile in an empty folder."""
    stages = read_dockerfile(DOCKERFILE.read_text("utf-8"))
    context = folder / "context"
    for file in context_files():
        _copy(PROJECT_ROOT / file, context / file)
    built: dict[str, Image] = {}
    for number, stage in enumerate(stages):
        image = Image(folder / f"stage-{number}", stage)
        _prepare(image.root)
        for step in stage.steps:
            _carry_out(image, step, context, built)
        built[stage.name] = image
    return image


def _prepare(root: Path) -> None:
    """The base image: this machine's users, and no more of its settings."""
    (root / "etc").mkdir(parents=True)
    for name in ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "ld.so.cache", "hosts"):
        if (Path("/etc") / name).exists():
            shutil.copy2(Path("/etc") / name, root / "etc" / name)
    if not (_PYTHON / "bin" / "python").exists():
        named = root / _NAMED.strip("/") / "python"
        named.parent.mkdir(parents=True)
        named.symlink_to(f"/usr/local/bin/python{sys.version_info.major}.{sys.version_info.minor}")


def _carry_out(image: Image, step: Step, context: Path, built: Mapping[str, Image]) -> None:
    if step.name == "COPY":
        source = built[step.options["from"]].root if "from" in step.options else context
        *files, target = step.parts
        for file in files:
            into = image.root / target.strip("/")
            found = source / file.strip("/")
            if not found.exists():
                raise FileNotFoundError(f"COPY {step.text}: {file} is not there; does .dockerignore let it pass?")
            into = into / found.name if target.endswith("/") or len(files) > 1 else into
            _copy(found, into)
    elif step.name == "RUN" and ("--require-hashes" in step.text or "apt-get" in step.text):
        image.skipped.append(step)
        if "--require-hashes" in step.text:
            _lend(image.root)
    elif step.name == "RUN":
        _run(image, step)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _run(image: Image, step: Step) -> None:
    words = step.words or ["sh", "-c", step.text]
    inside = {"PATH": f"/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:{_NAMED}", "HOME": "/tmp"}
    inside |= _OF_THIS_MACHINE
    inside |= image.stage.environment(before=step)
    script = f'{_MOUNTED}exec env -i {_quoted(inside)} /usr/sbin/chroot . "$@"'
    outside = {**os.environ, "PYTHON": str(_PYTHON), "PACKAGES": str(_PACKAGES)}
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", str(image.root)]
    done = subprocess.run([*command, *words], env=outside, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"RUN {step.text} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _lend(root: Path) -> None:
    """Have /opt/venv find the packages of this environment, and their commands, as if they were installed in it."""
    (site,) = (root / "opt/venv/lib").glob("python*/site-packages")
    # of a folder that is named in such a file its own such files are passed over: this checkout's link is not followed
    (site / "lent.pth").write_text(f"{_LENT}\n")
    for old in ("setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"):
        found = site / old
        shutil.rmtree(found) if found.is_dir() else found.unlink(missing_ok=True)
    for script in Path(sys.executable).parent.iterdir():
        if script.is_file() and not script.is_symlink() and script.read_bytes()[:2] == b"#!" and script.name != "mdp":
            text = re.sub(rb"\A#!.*python[0-9.]*", b"#!/opt/venv/bin/python", script.read_bytes())
            target = root / "opt/venv/bin" / script.name
            if not target.exists():
                target.write_bytes(text)
                target.chmod(0o755)


def _quoted(environment: Mapping[str, str]) -> str:
    return " ".join(f"'{key}={value}'" for key, value in environment.items())
