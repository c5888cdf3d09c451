"""Writes the seeds of the fuzz targets into a folder: inputs that the tests and examples have, nothing else."""

import hashlib
import json
import pathlib
import re
import sys

root = pathlib.Path(__file__).parent.parent
corpus = pathlib.Path(sys.argv[1])
MOST = 8192


def write(target, text):
    data = text.encode()
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    if 0 < len(data) <= MOST:
        (folder / ("seed-" + hashlib.sha256(data).hexdigest()[:16])).write_bytes(data)


def texts(*patterns):
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            yield path.read_text(errors="replace")


manifests = list(texts("examples/**/*.yaml", "tests/it/lint/*.in.yaml", "tests/it/plan/*.in.yaml"))
argo = list(texts("tests/it/convert/*.in.yaml"))
for text in manifests + argo:
    write("lint", text)
    write("convert", text)
    for document in re.split(r"(?m)^---.*$", text):
        if re.search(r"(?m)^kind: (Rollout|.*AnalysisTemplate)", document):
            write("spec", document)
        if re.search(r"(?m)^kind: VirtualService", document):
            write("route", document)
sources = list(texts("src/**/*.rs", "tests/it/*.rs", "docs/*.md")) + manifests
for text in sources:
    for found in re.findall(r"(?:success|failure)Condition\"?: *\"?(.+?)\"?[,}\n]", text):
        write("condition", found + "\n[1, 0.5]")
    for found in re.findall(r"\"(result[^\"\\]+)\"", text):
        write("condition", found + "\n" + json.dumps({"items": [{"name": "a", "ok": True}]}))
    for found in re.findall(r"\"(\$[.\[][^\"\\]+)\"", text):
        write("condition", found + "\n" + json.dumps({"data": {"items": [1, {"a": [2]}]}}))
    for found in re.findall(r"r#\"(\{\"status\".+?)\"#", text, re.S):
        write("answer", found)
