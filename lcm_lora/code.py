"""What code a module runs: itself and all of this package that it imports, and a hash of it.

A stage's results are kept only as long as this hash stands, and dvc.yaml lists the same files: so
changed mathematics never passes off the old as new.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The folder that holds the package."""
PACKAGE = Path(__file__).parent.name

_LIBRARIES = (
    "accelerate",
    "diffusers",
    "numpy",
    "peft",
    "pillow",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "webdataset",
)


@functools.cache
def closure(module: str) -> tuple[Path, ...]:
    """Return the files of this package that `module` needs, itself included, sorted.

    Imports inside functions count, since they run; those for type checkers alone do not, nor does a
    file that holds nothing but words.

    Args:
        module: Dotted name, such as `lcm_lora.data.prepare`.
    """
    found: set[Path] = set()
    pending = [module]
    while pending:
        for path in _files(pending.pop()):
            if path not in found and _says_more_than_words(path):
                found.add(path)
                pending.extend(_imports(path))
    return tuple(sorted(found))


@functools.cache
def code_sha256(module: str) -> str:
    """Return a SHA-256 over the names and contents of the closure of `module`."""
    digest = hashlib.sha256()
    for path in closure(module):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a stage computes."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _files(module: str) -> Iterator[Path]:
    """Yield the file of a module, and of the packages around it; nothing for a mere name."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return
    yield file
    for parent in file.relative_to(ROOT).parents:
        init = ROOT / parent / "__init__.py"
        if parent != Path() and init.is_file():
            yield init


def _imports(path: Path) -> Iterator[str]:
    """Yield the dotted names of this package that a file imports, modules and members alike."""
    for node in _statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements(child)


def _says_more_than_words(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)
