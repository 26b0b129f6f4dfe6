"""A stand-in of Prediction Guard's API for use without a key, in tests and on one's own machine.

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

- There is no language model. A text answer echoes the question, and quotes the sentence of a context that
  shares most words with it; of a picture it sees the type, the size, the orientation, the brightness and the
  main colours, and never what it shows: it reads no writing, either.
- Tool calls are guessed from JSON schemas and the words of the question. `pattern` is not obeyed.
- The checks for personal data, injection, toxicity and factuality are short lists of rules in English.
- Documents: a PDF's own text layer, plain text and markdown; no OCR.
- Embeddings are hashed words, rerank scores are shared words.
- Token counts are estimates: words cut into pieces of four bytes, pictures into patches of 28 pixels and
  at most 768 of them. Cached tokens are those of the messages shared with the model's last prompt.
- Sampling options are checked and then have no effect.
- There are no accounts, quotas or rate limits, and nothing is kept beyond the journal of requests.

What a program does when the service fails is tried by scripting the sandbox: `Sandbox.fail`, `drop`, `stall`,
`cut_stream` and `fail_check`. `Sandbox.answer` says what the model answers.
"""

from predictionguard_core.sandbox.environment import use_if_no_key
from predictionguard_core.sandbox.faults import Fault
from predictionguard_core.sandbox.service import Sandbox

__all__ = ["Fault", "Sandbox", "use_if_no_key"]
