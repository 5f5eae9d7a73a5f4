"""Sends documents with the question: nothing is uploaded, stored or shared with another request.

Export what `make up` prints, then: .venv/bin/python examples/documents_inline.py
"""

from __future__ import annotations

from openai import OpenAI

DOCUMENTS = [
    {"id": "gates", "title": "Gates", "text": "The north gate is opened by Mara Lind at six."},
    {"id": "parking", "title": "Parking", "text": "Bicycles are parked behind the north gate."},
]
QUESTION = "Who opens the north gate?"


def main() -> None:
    answer = OpenAI().chat.completions.create(
        model="helpdesk",
        messages=[{"role": "user", "content": QUESTION}],
        # An empty list of vector stores: read these documents and nothing else.
        extra_body={"engram": {"mode": "rag", "vector_store_ids": [], "documents": DOCUMENTS}},
    )
    message = answer.choices[0].message
    print(message.content)
    for citation in map(dict, message.annotations or []):
        print(f"[{citation['number']}] {citation['file_id']} ({citation['filename']})")


if __name__ == "__main__":
    main()
