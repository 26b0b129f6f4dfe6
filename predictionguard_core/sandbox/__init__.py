"""A mock of Prediction Guard's API, for tests and for trying things out without an API key.

    with Sandbox() as box:
        client = Client(api_key="any", base_url=box.url)
        ...
        assert box.requests[0]["model"] == "gpt-oss-120b"

`use_if_no_key()` starts one where no API key is set. `python -m predictionguard_core.sandbox --port 8080` serves the
same until Ctrl-C.

It speaks real HTTP on a port of this machine and serves `/chat/completions`, `/completions`,
`/embeddings`, `/rerank`, `/models`, `/tokenize`, `/detokenize`, `/PII`, `/injection`, `/toxicity`,
`/factuality` and `/documents/extract`, each also below `/v1`. It refuses what the endpoint
refuses, in the endpoint's words where they are known. Every answer is made by rules: the same request gets the
same answer.

What it does not imitate:

- There is no AI model, and every answer says so. A text answer echoes the question, and quotes the sentence of a
  context that shares most words with it. Of an image it sees type, size, orientation, brightness and main colours.
- Tool calls are made by rules. Their arguments are what the question quotes, counts or names; for the rest there are
  placeholders such as `<shop>`. `pattern` is not obeyed.
- The checks for personal data, injection, toxicity and factuality are short lists of rules in English.
- Documents: a PDF's own text layer, plain text and markdown; no OCR.
- Embeddings are hashed words, rerank scores are shared words.
- Token counts are estimates: words cut into pieces of four bytes, images into patches of 28 pixels and at most 768 of
  them. Cached tokens are those of the messages shared with the model's last prompt.
- Sampling options are checked and then have no effect. There are no accounts, quotas or rate limits.

What a program does when the service fails is tested by scripting faults: `Sandbox.fail`, `drop`, `stall`,
`slow_headers`, `keep_alive`, `cut_stream` and `fail_check`. `Sandbox.answer` sets what the model answers.
"""

from predictionguard_core.sandbox.environment import use_if_no_key
from predictionguard_core.sandbox.sandbox import Sandbox
from predictionguard_core.sandbox.server.faults import Fault

__all__ = ["Fault", "Sandbox", "use_if_no_key"]
