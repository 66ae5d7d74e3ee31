"""The package as it is installed, for tools that read source code."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def link_sources(folder: Path) -> None:
    """Link the package into `folder`/vqasr; vqasr.adapters lies beside it in the repository."""
    package = folder / "vqasr"
    package.mkdir()
    for path in (ROOT / "vqasr").iterdir():
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    (package / "adapters").symlink_to(ROOT / "adapters")
