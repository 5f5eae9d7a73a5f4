"""Streams a response that searches documents, shows its citations, then asks on.

Export what `make up` prints, then: .venv/bin/python examples/responses.py
"""

from __future__ import annotations

from openai import OpenAI
from openai.types.responses import FileSearchToolParam

DOCUMENT = """\
# Bicycles

## Hire

A company bicycle is hired from Nora Beck. The hire of a bicycle costs 4 euros for each week.
"""


def main() -> None:
    client = OpenAI()
    store = client.vector_stores.create(name="bicycles")
    file = client.files.create(file=("bicycles.md", DOCUMENT.encode()), purpose="assistants")
    try:
        client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
        search: FileSearchToolParam = {"type": "file_search", "vector_store_ids": [store.id]}
        first = stream(client, search, "What does the hire of a bicycle cost?")
        stream(client, search, "And who is it hired from?", after=first)
    finally:
        client.vector_stores.delete(store.id)
        client.files.delete(file.id)


def stream(
    client: OpenAI, search: FileSearchToolParam, question: str, after: str | None = None
) -> str:
    """Prints the answer as it comes; returns the id that the next question continues."""
    print(f"> {question}")
    with client.responses.stream(
        model="helpdesk", input=question, tools=[search], previous_response_id=after
    ) as events:
        for event in events:
            if event.type == "response.output_item.done" and event.item.type == "file_search_call":
                print(f"(searched for: {' / '.join(event.item.queries)})")
            elif event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
        answer = events.get_final_response()
    for item in answer.output:
        for part in item.content if item.type == "message" else ():
            for cited in part.annotations or () if part.type == "output_text" else ():
                if cited.type == "file_citation":
                    print(f"\n[{cited.filename}, up to character {cited.index}]", end="")
    print()
    return answer.id


if __name__ == "__main__":
    main()
