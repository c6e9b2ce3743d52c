"""The packages of the wheel, and the README as its description, in which links to the repository become absolute.

The rest of the build is in pyproject.toml. Links are made from `Repository` of its project.urls; without one they stay.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def absolute(readme: str, repository: str) -> str:
    """The README with its pictures and links at the repository's address."""

    def at(match: re.Match[str]) -> str:
        kind = "raw" if match[1] else "blob"
        return f"{match[1]}[{match[2]}]({repository.rstrip('/')}/{kind}/HEAD/{match[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)", at, readme)


if __name__ == "__main__":
    table = tomllib.loads((HERE / "pyproject.toml").read_text())
    project, elsewhere = table["project"], table["tool"]["setuptools"]["package-dir"]
    readme, repository = (HERE / "README.md").read_text(), project["urls"].get("Repository")
    setup(
        packages=[*find_packages(include=["hmgan", "hmgan.*"]), *elsewhere],
        long_description=absolute(readme, repository) if repository else readme,
        long_description_content_type="text/markdown",
    )
