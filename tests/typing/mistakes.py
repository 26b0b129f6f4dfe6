"""Mistakes in user code: mypy must report each line marked "# wrong" and no other. Never run."""

from __future__ import annotations

import httpx

from langchain_predictionguard import ChatPredictionGuard, PredictionGuardEmbeddings, PredictionGuardRerank
from llama_index_predictionguard import PredictionGuard
from predictionguard_core import ChatRequest, Client, ImagePolicy, InputChecks
from predictionguard_core.sandbox import Sandbox

VISION = "Qwen2.5-VL-7B-Instruct"

chat = ChatPredictionGuard(VISION, temperature=1)
ChatPredictionGuard()  # wrong
ChatPredictionGuard(VISION, temprature=1)  # wrong
ChatPredictionGuard(VISION, temperature="hot")  # wrong
PredictionGuard(VISION, temprature=1)  # wrong
PredictionGuard(VISION, default_headers="X-A: 1")  # wrong
ChatPredictionGuard(VISION, reasoning_effort=3)  # wrong
ChatPredictionGuard(VISION, "key")  # wrong
ChatPredictionGuard(VISION, http_client=httpx.AsyncClient())  # wrong
PredictionGuardEmbeddings(VISION, temperature=1)  # wrong
PredictionGuardEmbeddings(VISION).embed_documents("one")  # wrong
PredictionGuardRerank(VISION, top_n="3")  # wrong
PredictionGuard()  # wrong
PredictionGuard(VISION, temperature="hot")  # wrong
PredictionGuard(VISION, temprature=1)  # wrong
PredictionGuard(VISION, default_headers="X-A: 1")  # wrong
InputChecks(pii="mask")  # wrong
ImagePolicy(max_size=1)  # wrong
ImagePolicy(max_edge="big")  # wrong
Client(timeout="5")  # wrong
Client().models("vision")  # wrong
Client().chat("Hello")  # wrong
ChatRequest(model=VISION, messages="Hello")
chat.list_models("vision")  # wrong
Sandbox().fail_check("personal data")  # wrong
Sandbox().fail("429")  # wrong
