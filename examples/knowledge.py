"""Puts 200 mixed files into a vector store, searches them, asks about them, and deletes one.

Uses nothing but OpenAI's SDK; ends with 1 when something is not as it should be.
Export what `make up` prints, then: .venv/bin/python examples/knowledge.py
"""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from openai import OpenAI

COUNT, PER_BATCH = 200, 50
DOCX_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType='
    '"application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.wordprocessingml.document.main+xml"/></Types>'
)
DOCX_LINKS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
DOCX_BODY = (
    '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    "<w:body><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:body></w:document>"
)


def fact(n: int) -> str:
    return f"Machine M{n:03} stands in hall {n % 7} and is oiled every {n + 11} days."


def table(n: int) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([["machine", "rule"], [f"M{n:03}", fact(n)]])
    return text.getvalue().encode()


def docx(n: int) -> bytes:
    """The three parts that a Word file cannot do without."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", DOCX_TYPES)
        archive.writestr("_rels/.rels", DOCX_LINKS)
        archive.writestr("word/document.xml", DOCX_BODY.format(fact(n)))
    return file.getvalue()


def pdf(n: int) -> bytes:
    """One page with one line."""
    stream = f"BT /F1 12 Tf 40 700 Td ({fact(n)}) Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
        "/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(stream)}>>\nstream\n{stream}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    data, places = "%PDF-1.4\n", list[int]()
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n"
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    table = f"xref\n0 {size}\n0000000000 65535 f \n{rows}"
    end = f"trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF\n"
    return (data + table + end).encode()


WRITERS: dict[str, Callable[[int], bytes]] = {
    "md": lambda n: f"# Machine M{n:03}\n\n{fact(n)}\n".encode(),
    "txt": lambda n: f"{fact(n)}\n".encode(),
    "html": lambda n: (
        f"<html><body><h1>Machine M{n:03}</h1><p>{fact(n)}</p></body></html>".encode()
    ),
    "csv": table,
    "json": lambda n: json.dumps({"machine": f"M{n:03}", "rule": fact(n)}).encode(),
    "py": lambda n: f'"""{fact(n)}"""\n\nDAYS = {n + 11}\n'.encode(),
    "pdf": pdf,
    "docx": docx,
}


def check(holds: bool, what: str) -> None:
    print(f"  {'ok' if holds else 'WRONG'}: {what}")
    if not holds:
        sys.exit(1)


def write(folder: Path) -> list[Path]:
    kinds = list(WRITERS)
    paths = [folder / f"m{n:03}.{kinds[n % len(kinds)]}" for n in range(COUNT)]
    for n, path in enumerate(paths):
        path.write_bytes(WRITERS[path.suffix[1:]](n))
    return paths


def upload(client: OpenAI, paths: list[Path]) -> dict[str, str]:
    """The files' ids by name."""
    created = [client.files.create(file=path, purpose="assistants") for path in paths]
    return {file.filename: file.id for file in created}


def attach(client: OpenAI, store: str, ids: dict[str, str]) -> None:
    """In batches, each file with its hall and kind as attributes."""
    items = list(ids.items())
    for start in range(0, len(items), PER_BATCH):
        batch = client.vector_stores.file_batches.create_and_poll(
            store,
            files=[
                {
                    "file_id": file_id,
                    "attributes": {"hall": int(name[1:4]) % 7, "kind": name.rpartition(".")[2]},
                }
                for name, file_id in items[start : start + PER_BATCH]
            ],
        )
        counts = batch.file_counts
        failed = client.vector_stores.file_batches.list_files(
            batch.id, vector_store_id=store, filter="failed"
        )
        for file in failed:
            print(f"  {file.id}: {file.last_error and file.last_error.message}")
        check(counts.completed == counts.total, f"{counts.completed} of {counts.total} completed")


def found(client: OpenAI, store: str, n: int, **filters: int | str) -> list[str]:
    """Names of the files that a search for machine `n` finds, best first."""
    where = [{"type": "eq", "key": key, "value": value} for key, value in filters.items()]
    page = client.vector_stores.search(
        store,
        query=f"How often is machine M{n:03} oiled?",
        max_num_results=5,
        extra_body={"filters": {"type": "and", "filters": where}} if where else None,
    )
    return [hit.filename for hit in page]


def ask(client: OpenAI, store: str, n: int) -> None:
    question = f"How often is machine M{n:03} oiled?"
    answer = client.chat.completions.create(
        model="helpdesk",
        messages=[{"role": "user", "content": question}],
        max_completion_tokens=60,
        extra_body={"engram": {"mode": "rag", "vector_store_ids": [store]}},
    )
    print(f"  chat: {answer.choices[0].message.content!r}")
    sources = (answer.model_extra or {})["engram"]["sources"]
    check(bool(sources), f"read {', '.join(source['filename'] for source in sources)}")
    response = client.responses.create(
        model="helpdesk",
        input=question,
        max_output_tokens=60,
        tools=[{"type": "file_search", "vector_store_ids": [store]}],
        tool_choice={"type": "file_search"},
        include=["file_search_call.results"],
    )
    print(f"  responses: {response.output_text!r}")
    calls = [item for item in response.output if item.type == "file_search_call"]
    check(any(call.results for call in calls), "and the response searched the files")


def main() -> None:
    client = OpenAI()
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder))
        print(f"{len(paths)} files of {len(WRITERS)} kinds")
        ids = upload(client, paths)
    print(f"{len(ids)} uploaded")
    store = client.vector_stores.create(name="machines").id
    try:
        attach(client, store, ids)
        for n in range(len(WRITERS)):  # one of each kind
            name = next(name for name in ids if name.startswith(f"m{n:03}."))
            check(found(client, store, n)[:1] == [name], f"M{n:03} is found in {name}")
        kinds = {name.rpartition(".")[2] for name in found(client, store, 8, kind="pdf", hall=1)}
        check(kinds == {"pdf"}, "a filter finds what has the attributes, and nothing else")
        ask(client, store, 16)
        client.files.delete(ids.pop("m000.md"))
        check("m000.md" not in found(client, store, 0), "a deleted file is not found")
    finally:
        client.vector_stores.delete(store)
        for file_id in ids.values():
            client.files.delete(file_id)
    print("cleaned up")


if __name__ == "__main__":
    main()
