"""The native library: built by the machine's own compiler on first use, cached, and loaded by ctypes."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

__all__ = ["BuildError", "library"]

_LOG = logging.getLogger("diffsim")
_SOURCES = Path(__file__).parent / "kernel"
_REALS = {torch.float32: "float", torch.float64: "double"}
_FLAGS = ("-std=gnu++17", "-O2", "-march=native", "-fno-math-errno", "-fPIC", "-pthread")
# Where the linker can, the library's functions call each other without a detour.
_LINKED = ("-shared", "-Wl,-Bsymbolic") if sys.platform.startswith("linux") else ("-shared",)
_SECONDS = 120


class BuildError(RuntimeError):
    """The native library cannot be built or loaded here."""


def library(dtype: torch.dtype) -> ctypes.CDLL:
    """The library for numbers of a dtype, float32 or float64.

    It is kept in `$DIFFSIM_CACHE`, by default a folder of the user's cache, under a name that tells sources, compiler,
    flags and processor. The compiler is `$CXX`, by default `c++`.

    Raises:
        BuildError: There is no compiler, or it fails; the message tells why.
    """
    found = _library(dtype)
    if isinstance(found, BuildError):
        raise found
    return found


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | BuildError:
    """The library, or why there is none: a process tries once."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return BuildError("there is no C++ compiler here; install g++ or clang++, or name one by CXX")
    flags = (*_FLAGS, f"-DREAL={_REALS[dtype]}")
    path = _folder() / f"{_fingerprint(compiler, flags)}.so"
    try:
        if not _whole(path):
            _build(compiler, flags, path)
        return ctypes.CDLL(str(path))
    except BuildError as error:
        return error
    except OSError as error:
        return BuildError(f"{path} cannot be loaded: {error}")


def _folder() -> Path:
    named = os.environ.get("DIFFSIM_CACHE")
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffsim"
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=base):
            return base
    except OSError:
        # Nothing may be kept there: a folder of this process's own, which no other user can write to.
        return Path(tempfile.mkdtemp(prefix="diffsim-"))


def _fingerprint(compiler: str, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    resolved = Path(shutil.which(compiler) or compiler).resolve()
    stamp = resolved.stat().st_mtime_ns if resolved.exists() else 0
    digest.update(repr((str(resolved), stamp, flags, platform.machine(), _processor())).encode())
    return digest.hexdigest()[:24]


def _processor() -> str:
    """What tells processors apart whose native instructions differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _whole(path: Path) -> bool:
    """Whether the library is there, undamaged: loading a torn one may end the process."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _digest(path).read_text()
    except OSError:
        return False


def _digest(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _build(compiler: str, flags: tuple[str, ...], path: Path) -> None:
    # Built beside its place and renamed: another process sees a whole library or none.
    part = path.with_name(f"{path.stem}.{os.getpid()}.part")
    try:
        _LOG.info("building the native library: %s %s", compiler, " ".join(flags))
        with tempfile.TemporaryDirectory(prefix="diffsim-") as folder:
            sources = sorted(_SOURCES.glob("*.cpp"))
            objects = [Path(folder) / f"{source.stem}.o" for source in sources]
            pairs = zip(sources, objects, strict=True)
            _run([[compiler, *flags, "-c", "-o", str(made), str(source)] for source, made in pairs])
            _run([[compiler, *flags, *_LINKED, "-o", str(part), *map(str, objects)]])
        _digest(path).write_text(hashlib.sha256(part.read_bytes()).hexdigest())
        part.replace(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{compiler} failed: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _run(commands: Sequence[Sequence[str]]) -> None:
    """Runs commands beside each other, to the end of the last one."""
    with ExitStack() as stack:
        started: list[subprocess.Popen[str]] = []
        for command in commands:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        for process, command in zip(started, commands, strict=True):
            _, errors = process.communicate(timeout=_SECONDS)
            if process.returncode:
                last = "; ".join(errors.strip().splitlines()[-3:])
                raise BuildError(f"{command[0]} failed with exit status {process.returncode}: {last}")
