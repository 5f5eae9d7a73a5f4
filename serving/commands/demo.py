"""The demo company on `engram up` with the demo model: its tenant, documents and first requests."""

from __future__ import annotations

import sys

from serving.commands.console import say
from serving.commands.ingest import sync
from serving.settings import RetrievalSettings, Settings
from serving.upload.uploader import Uploader


def for_demo(settings: Settings) -> Settings:
    """Cuts documents as the demo model reads best, unless the operator has said otherwise."""
    from deploy.demo.seed import CHUNK_TOKENS

    if settings.retrieval.chunk_tokens != RetrievalSettings().chunk_tokens:
        return settings
    retrieval = settings.retrieval.model_copy(update={"chunk_tokens": CHUNK_TOKENS})
    return settings.model_copy(update={"retrieval": retrieval})


def seed(settings: Settings) -> str:
    from deploy.demo import seed
    from serving.app import open_store

    say("preparing the demo: tenant, key, assistant `helpdesk`")
    return seed.seed(settings, open_store(settings))


def ingest_demo(url: str, key: str) -> None:
    from deploy.demo import seed

    with Uploader(url, key) as uploader:
        sync(uploader, seed.documents(), seed.STORE, False, False)


def banner(url: str, key: str | None) -> None:
    shown = key or "…  # engram key create --tenant NAME --name NAME"
    print(f"\nexport OPENAI_BASE_URL={url}\nexport OPENAI_API_KEY={shown}\n")
    if key:
        print(_DEMO)


_ASK = """\
curl {flags} $OPENAI_BASE_URL/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \
-H 'Content-Type: application/json' -d '{body}'
"""
_DEMO = "\n".join(
    (
        _ASK.format(
            flags="-sN",
            body='{"model": "helpdesk", "stream": true, "messages": '
            '[{"role": "user", "content": "Ticket: for how long is my badge valid?"}]}',
        ),
        _ASK.format(
            flags="-s",
            body='{"model": "helpdesk:rag", "messages": '
            '[{"role": "user", "content": "Which company repairs broken laptops?"}]}',
        ),
        'curl -s $OPENAI_BASE_URL/models -H "Authorization: Bearer $OPENAI_API_KEY"\n',
        f"{sys.executable} - <<'E'",
        "from openai import OpenAI",
        'messages = [{"role": "user", "content": "Ticket: for how long is my badge valid?"}]',
        "answer = OpenAI().chat.completions.create(model='helpdesk', messages=messages)",
        "print(answer.choices[0].message.content)",
        "E",
    )
)
