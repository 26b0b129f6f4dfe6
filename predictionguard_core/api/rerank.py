"""`POST /rerank`. Source: the API's OpenAPI specification, version 1.2."""

from __future__ import annotations

from pydantic import Field

from predictionguard_core.api.base import RequestModel, ResponseModel


class RerankRequest(RequestModel):
    """Documents to judge by how well they answer a query."""

    model: str = Field(min_length=1)
    query: str
    documents: list[str]
    return_documents: bool | None = None


class Ranked(ResponseModel):
    """One document's judgement: `index` is its place among those that were sent, `relevance_score` higher is better."""

    index: int
    relevance_score: float
    text: str | None = None


class Ranking(ResponseModel):
    """What the service answers, in whatever order."""

    results: list[Ranked]
