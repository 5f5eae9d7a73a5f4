#!/usr/bin/env bash
# The API without a client library. Prints what the server sends, as it sends it.
#
# Export what `make up` prints, then: examples/curl.sh
set -euo pipefail

engram() {
    curl --silent --show-error --fail-with-body --no-buffer \
        --header "Authorization: Bearer $OPENAI_API_KEY" \
        --header "Content-Type: application/json" "$@"
    echo
}

echo "# what can be named in \"model\""
engram "$OPENAI_BASE_URL/models"

echo "# streamed, the mode left to the assistant's policy"
engram "$OPENAI_BASE_URL/chat/completions" --data '{
  "model": "helpdesk", "stream": true,
  "messages": [{"role": "user", "content": "Which company repairs broken laptops?"}]}'

echo "# whole, the mode named; the headers say what was chosen"
engram --dump-header - "$OPENAI_BASE_URL/chat/completions" --data '{
  "model": "helpdesk:rag",
  "messages": [{"role": "user", "content": "What does a lost badge cost?"}]}'

echo "# what the tenant has used (needs the scope admin)"
engram "${OPENAI_BASE_URL%/v1}/admin/usage"
