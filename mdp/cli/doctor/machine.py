"""Looks at the machine: settings, versions, directories, disk, limits, what others may read.

Not here: services (``services``), exchanges and the clock (``exchanges``).
"""

from __future__ import annotations

import os
import re
import resource
import secrets
import shutil
import stat
import sys
from importlib import metadata
from pathlib import Path

from mdp.cli.doctor.findings import Finding, ill, odd, well
from mdp.config.given import find_problems
from mdp.config.settings import PROJECT_ROOT, Settings

NEEDED_FILES, NEEDED_BYTES, LOW_BYTES = 1_024, 256 << 20, 2 << 30
"""Open files of a feed or service; free bytes without which writing ends soon, and with which it goes on a while."""

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def look_at_settings(settings: Settings) -> list[Finding]:
    """Does the environment have all it needs?"""
    problems = find_problems(settings.env)
    if not problems:
        return [well("settings", settings.env)]
    return [ill("settings", f"{one.setting}: {one.said}", one.remedy) for one in problems]


def look_at_versions(settings: Settings) -> list[Finding]:  # noqa: ARG001 every look is given the settings
    """Is what is installed what was tested?"""
    locks = [PROJECT_ROOT / "requirements.lock", PROJECT_ROOT / "deploy" / "requirements.lock"]
    lock = next((path for path in locks if path.is_file()), None)
    found = f"mdp {metadata.version('mdp')}, Python {sys.version.split()[0]}, dagster {metadata.version('dagster')}"
    if lock is None:
        return [odd("versions", f"{found}; no lock file beside the package", "compare with the lock of the release")]
    pinned: dict[str, list[str]] = {}  # a package may be there once for each Python
    for name, version in _PIN.findall(lock.read_text(encoding="utf-8")):
        pinned.setdefault(_plain(name), []).append(version)
    here = {_plain(one.metadata["Name"]): one.version for one in metadata.distributions()}
    other = [
        f"{name} {here[name]} instead of {' or '.join(pinned[name])}"
        for name in sorted(pinned.keys() & here.keys())
        if here[name] not in pinned[name]
    ]
    if other:
        return [odd("versions", f"{found}; {', '.join(other[:5])}", "install the lock: make install")]
    return [well("versions", found)]


def look_at_directories(settings: Settings) -> list[Finding]:
    """Can this user write where it must, down to the disk itself?"""
    findings = []
    for name, folder in (("data directory", settings.data_dir), ("bus directory", settings.bus_dir)):
        there = folder if folder.exists() else next(above for above in folder.parents if above.exists())
        try:
            _write_through(there)
        except OSError as error:
            advice = f"give this user the right to write there, or room, or name another place: MDP_DATA_DIR ({there})"
            findings.append(ill(name, f"{folder}: {error.strerror}", advice))
        else:
            findings.append(well(name, f"{folder}{'' if folder.exists() else ' (not made yet)'}"))
    return findings


def look_at_disk(settings: Settings) -> list[Finding]:
    """Is there room?"""
    folder = settings.data_dir
    there = folder if folder.exists() else next(above for above in folder.parents if above.exists())
    free, nodes = shutil.disk_usage(there).free, os.statvfs(there)
    seen = f"{free / 1e9:,.1f} GB free"
    if nodes.f_files and nodes.f_favail < 10_000:
        return [ill("disk", f"{seen}, {nodes.f_favail} files can still be made", "remove files, or make room for more")]
    if free < NEEDED_BYTES:
        return [
            ill("disk", seen, "make room: `mdp storage` says what takes it, `mdp maintain` removes what nothing needs")
        ]
    if free < LOW_BYTES:
        return [odd("disk", seen, "a market takes about 20 MB a year; `mdp maintain` removes what nothing needs")]
    return [well("disk", seen)]


def look_at_limits(settings: Settings) -> list[Finding]:
    """May a process open as many files, and take as much memory, as it will?"""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = settings.workers * settings.memory_mb_per_market
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)
    findings = [well("open files", f"{files:,} may be open")]
    if files < NEEDED_FILES:
        findings = [ill("open files", f"{files:,} may be open", f"raise the limit to {NEEDED_FILES:,}: ulimit -n")]
    base = 300 * settings.workers
    seen = f"{total:,} MB; workers may take {base + wanted:,} MB"
    if base + wanted > total:
        findings.append(odd("memory", seen, "lower MDP_WORKERS or MDP_MEMORY_MB_PER_MARKET"))
    else:
        findings.append(well("memory", seen))
    return findings


def look_at_keys(settings: Settings) -> list[Finding]:
    """May others read the hashes of keys?"""
    path = settings.keys_file
    if not path.exists():
        return [well("keys", "none; only this machine may ask the service")]
    others = stat.S_IMODE(path.stat().st_mode) & 0o027
    if others:
        return [ill("keys", f"{path}: others may read or change it", f"chmod 600 {path}")]
    return [well("keys", str(path))]


def _write_through(folder: Path) -> None:
    path = folder / f".doctor-{secrets.token_hex(4)}"
    try:
        with path.open("xb") as file:
            file.write(b"x" * 4_096)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
