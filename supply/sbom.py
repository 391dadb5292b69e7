"""`python -m supply.sbom [FILE]`: a software bill of materials, CycloneDX 1.6 JSON: packages and weights, with hashes.

It tells what is installed here, so run it in the environment that is shipped. The same one gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path

from sigan import __version__
from supply import dependencies

SPDX = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+|[()])*")
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/sigan")
WEIGHTS_LICENCES = {"mini": "CC-BY-NC-SA-4.0", "lpips": "BSD-2-Clause", "gender.safetensors": "CC-BY-NC-SA-4.0"}


def document() -> dict:
    """The whole bill."""
    packages = dependencies.closure(dependencies.declared())
    components = [component(package) for package in packages.values()] + weights()
    root = f"pkg:pypi/sigan@{__version__}"
    direct = [name for name in dependencies.names(dependencies.declared()) if name in packages]
    edges = [{"ref": purl(package), "dependsOn": sorted(purl(packages[need]) for need in package.needs
                                                        if need in packages)} for package in packages.values()]
    body = {
        "metadata": {"component": {"type": "application", "bom-ref": root, "name": "sigan", "version": __version__,
                                   "purl": root, "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": sorted(purl(packages[name]) for name in direct)}, *edges],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(body, sort_keys=True))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX",
            "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1, **body}


def component(package: dependencies.Package) -> dict:
    """One package as a component."""
    licence = package.licence
    told = {"expression": licence} if SPDX.fullmatch(licence) and " " in licence else {
        "license": {"id" if SPDX.fullmatch(licence) else "name": licence}}
    home = [{"type": "website", "url": package.home}] if package.home else []
    return {"type": "library", "bom-ref": purl(package), "name": package.name, "version": package.version,
            "purl": purl(package), "licenses": [told], "externalReferences": home}


def weights() -> list[dict]:
    """The weights inside the wheel, each file with its SHA-256."""
    assets = dependencies.ROOT / "sigan" / "assets"
    found = []
    for path in sorted(assets.rglob("*.safetensors")):
        name = path.relative_to(assets).as_posix()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append({"type": "machine-learning-model", "bom-ref": f"weights:{name}", "name": name,
                      "hashes": [{"alg": "SHA-256", "content": digest}],
                      "licenses": [{"license": {"id": WEIGHTS_LICENCES[name.partition("/")[0]]}}]})
    return found


def purl(package: dependencies.Package) -> str:
    return f"pkg:pypi/{package.name}@{package.version}".replace("+", "%2B")


def main(path: str = "") -> None:
    text = json.dumps(document(), indent=2) + "\n"
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
