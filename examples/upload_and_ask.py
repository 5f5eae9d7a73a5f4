"""Makes a vector store, uploads a document, searches it, asks about it and cleans up.

Export what `make up` prints, then: .venv/bin/python examples/upload_and_ask.py
"""

from __future__ import annotations

from openai import OpenAI

DOCUMENT = """\
# Bicycles

## Hire

A company bicycle is hired from Nora Beck. The hire of a bicycle costs 4 euros for each week.

## Repair

A broken bicycle is repaired in workshop 7.
"""
QUESTION = "What does the hire of a bicycle cost?"


def main() -> None:
    client = OpenAI()
    store = client.vector_stores.create(name="bicycles")
    file = client.files.create(file=("bicycles.md", DOCUMENT.encode()), purpose="assistants")
    try:
        # The call returns when the file is searchable, or has failed.
        attached = client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes={"team": "offices"}
        )
        print(f"{file.filename}: {attached.status}")
        for hit in client.vector_stores.search(store.id, query=QUESTION, max_num_results=2):
            print(f"  {hit.score:.2f} {hit.content[0].text!r}")
        print(ask(client, store.id))
    finally:
        client.vector_stores.delete(store.id)
        client.files.delete(file.id)


def ask(client: OpenAI, store_id: str) -> str:
    answer = client.chat.completions.create(
        model="helpdesk",
        messages=[{"role": "user", "content": QUESTION}],
        extra_body={
            "engram": {
                "mode": "rag",
                "vector_store_ids": [store_id],
                "filters": {"type": "eq", "key": "team", "value": "offices"},
            }
        },
    )
    return answer.choices[0].message.content or ""


if __name__ == "__main__":
    main()
