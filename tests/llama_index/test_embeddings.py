"""Embeddings of texts and images: what is sent, in which batches, and what comes back in which order."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.llms import ImageBlock
from llama_index.core.schema import Document, ImageDocument, ImageNode, NodeWithScore, TextNode

import llama_index_predictionguard as adapter
from llama_index_predictionguard import ImagePolicy, PredictionGuardEmbedding
from predictionguard_core.images.image import Image
from predictionguard_core.sandbox import Sandbox
from tests.image_helpers import serve_publicly

BOTH, TEXTS = "bridgetower-large-itm-mlm-itc", "bge-m3"
KEY = "sk-not-to-be-seen"

Make = Callable[..., PredictionGuardEmbedding]


@pytest.fixture
def make(box: Sandbox) -> Make:
    def make(model: str = BOTH, **options: Any) -> PredictionGuardEmbedding:
        return PredictionGuardEmbedding(model, **{"api_key": KEY, "base_url": box.url, "max_retries": 0, **options})

    return make


@pytest.fixture
def embedding(make: Make) -> PredictionGuardEmbedding:
    return make()


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))  # the sandbox's vectors have length 1


def of_number(text: str) -> list[float]:
    return [float(text.rpartition(" ")[2])]


def numbering(sent: list[list[Any]]) -> httpx.MockTransport:
    """A service whose vector of "text 7" is [7.0], and which answers last one first."""

    def answer(request: httpx.Request) -> httpx.Response:
        inputs = json.loads(request.content)["input"]
        sent.append(inputs)
        data = [{"index": index, "embedding": of_number(text)} for index, text in enumerate(inputs)]
        return httpx.Response(200, json={"data": data[::-1]})

    return httpx.MockTransport(answer)


# Texts


def test_texts_and_a_query(embedding: PredictionGuardEmbedding, box: Sandbox) -> None:
    cat, dog, query = (
        embedding.get_text_embedding("A cat sleeps on the sofa."),
        embedding.get_text_embedding("The stock market fell."),
        embedding.get_query_embedding("a sleeping cat"),
    )
    assert len(cat) == 512
    assert cosine(cat, query) > cosine(dog, query) + 0.2
    assert box.requests[-1] == {"model": BOTH, "input": ["a sleeping cat"]}


async def test_async_methods_return_the_same(embedding: PredictionGuardEmbedding, photos: Path) -> None:
    texts, images = ["one", "two", "three"], [str(photos / "cat.jpg"), str(photos / "coffee.jpg")]
    assert await embedding.aget_query_embedding("one") == embedding.get_query_embedding("one")
    assert await embedding.aget_text_embedding("one") == embedding.get_text_embedding("one")
    assert await embedding.aget_text_embedding_batch(texts) == embedding.get_text_embedding_batch(texts)
    assert await embedding.aget_image_embedding(images[0]) == embedding.get_image_embedding(images[0])
    assert await embedding.aget_image_embedding_batch(images) == embedding.get_image_embedding_batch(images)


async def test_batches_have_the_endpoints_size_and_the_order_is_restored(make: Make) -> None:
    texts = [f"text {number}" for number in range(71)]
    expected = [[float(number)] for number in range(71)]
    sent: list[list[Any]] = []
    with httpx.Client(transport=numbering(sent)) as client:
        embedding = make(http_client=client)
        assert embedding.get_text_embedding_batch(texts) == expected
        assert sorted(len(each) for each in sent) == [11, 30, 30]
        assert make(http_client=client, embed_batch_size=50).get_text_embedding_batch(texts) == expected
        assert sorted(len(each) for each in sent[3:]) == [20, 21, 30]
        assert make(http_client=client, embed_batch_size=40).get_text_embedding_batch([]) == []
    later: list[list[Any]] = []
    async with httpx.AsyncClient(transport=numbering(later)) as client:
        for workers in (None, 2):
            embedding = make(async_http_client=client, num_workers=workers)
            assert await embedding.aget_text_embedding_batch(texts) == expected
    assert sorted(len(each) for each in later) == [11, 11, 30, 30, 30, 30]


def test_requests_are_sent_concurrently(make: Make) -> None:
    meeting = threading.Barrier(3, timeout=30)
    vectors = numbering([])

    def answer(request: httpx.Request) -> httpx.Response:
        meeting.wait()  # breaks unless three requests are there at the same time
        return vectors.handler(request)  # type: ignore[return-value]

    texts = [f"text {number}" for number in range(90)]
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        embedding = make(http_client=client, max_concurrency=3)
        assert embedding.get_text_embedding_batch(texts) == [[float(number)] for number in range(90)]


def test_the_first_error_cancels_the_other_requests(make: Make) -> None:
    count = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(400, json={"error": "no"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client, pytest.raises(adapter.InvalidRequestError):
        make(http_client=client, max_concurrency=1).get_text_embedding_batch([f"text {n}" for n in range(90)])
    assert count == 1


def test_show_progress_shows_progress(
    embedding: PredictionGuardEmbedding, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedding.get_text_embedding_batch(["a", "b"])
    assert capsys.readouterr().err == ""
    embedding.get_text_embedding_batch(["a", "b"], show_progress=True)
    embedding.get_image_embedding_batch([str(photos / "cat.jpg")], show_progress=True)
    shown = capsys.readouterr().err
    assert "Generating embeddings: 100%" in shown
    assert "Generating image embeddings: 100%" in shown


def test_a_text_that_is_too_long_is_an_error(make: Make, box: Sandbox) -> None:
    text = "word " * 9000
    with pytest.raises(adapter.InvalidRequestError, match="truncate"):
        make(TEXTS).get_text_embedding(text)
    assert len(make(TEXTS, truncate=True, truncation_direction="Left").get_text_embedding(text)) == 1024
    assert box.requests[-1] == {"model": TEXTS, "input": [text], "truncate": True, "truncation_direction": "Left"}


# Images


def test_every_image_form_is_sent_as_the_same_base64(
    make: Make, box: Sandbox, cat: bytes, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_publicly(monkeypatch, cat)
    path, text = photos / "cat.jpg", base64.b64encode(cat).decode()
    with path.open("rb") as file:
        forms = {
            "path as text": str(path),
            "path": path,
            "open memory": io.BytesIO(cat),
            "open file": file,
            "bytes": cat,
            "base64": text,
            "data URI": f"data:image/png;base64,{text}",
            "URL": "https://example.com/cat",
            "block": ImageBlock(image=cat),
            "node": ImageNode(image=text),
            "node with a path": ImageNode(image_path=str(path)),
            "retrieved": NodeWithScore(node=ImageNode(image=text)),
            "document": ImageDocument(image_path=str(path)),
            "image": Image.open(cat),
        }
        embedding = make()
        vectors = {form: embedding.get_image_embedding(source) for form, source in forms.items()}
    assert {form: vector == vectors["path"] for form, vector in vectors.items()} == dict.fromkeys(forms, True)
    assert [body["input"] for body in box.requests] == [[{"image": text}]] * len(forms)


def test_an_open_file_keeps_its_position(embedding: PredictionGuardEmbedding, photos: Path) -> None:
    with (photos / "cat.jpg").open("rb") as file:
        file.seek(100)
        first = embedding.get_image_embedding(file)
        assert file.tell() == 100
        assert embedding.get_image_embedding(file) == first


def test_an_image_is_nearest_to_its_description(embedding: PredictionGuardEmbedding, photos: Path) -> None:
    names = ["galaxies.jpg", "coffee.jpg", "receipt.jpg"]
    images = embedding.get_image_embedding_batch([photos / name for name in names])
    for query, expected in (
        ("a dark image, black all over", "galaxies.jpg"),
        ("brown, dark red and tan", "coffee.jpg"),
        ("a light image in portrait format, light grey and white", "receipt.jpg"),
    ):
        vector = embedding.get_query_embedding(query)
        nearest = max(range(3), key=lambda index: cosine(vector, images[index]))
        assert names[nearest] == expected, query


async def test_many_images_keep_their_order(make: Make, box: Sandbox, photos: Path) -> None:
    names = ["cat.jpg", "coffee.jpg", "galaxies.jpg", "receipt.jpg"]
    paths = [photos / names[number % 4] for number in range(34)]
    embedding = make(images=ImagePolicy(max_edge=64))
    alone = [embedding.get_image_embedding(photos / name) for name in names]
    box.clear()
    vectors = embedding.get_image_embedding_batch(paths)
    # As many images in a request as the policy allows.
    assert sorted(len(body["input"]) for body in box.requests) == [2, 16, 16]
    assert vectors == [alone[number % 4] for number in range(34)]
    assert await embedding.aget_image_embedding_batch(paths) == vectors


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("/etc/passwd", adapter.ImageFormatError),
        ("/no/such/file.jpg", adapter.ImageFormatError),
        ("/dev/zero", adapter.ImageBlockedError),
        ("file:///etc/passwd", adapter.ImageBlockedError),
        ("http://127.0.0.1/x.jpg", adapter.ImageBlockedError),
        ("", adapter.ImageFormatError),
        (b"no image", adapter.ImageFormatError),
        (None, adapter.ImageFormatError),
        (ImageBlock(), adapter.ImageFormatError),
        (ImageNode(), adapter.UnsupportedContentError),
        (TextNode(text="words"), adapter.UnsupportedContentError),
    ],
)
async def test_an_invalid_image_is_refused_with_its_index(
    image: Any, kind: type[adapter.ContentError], make: Make, box: Sandbox, cat: bytes
) -> None:
    for size in (30, 2):
        embedding = make(embed_batch_size=size)
        for number in (0, 2):
            images: list[Any] = [cat] * 3
            images[number] = image
            with pytest.raises(kind) as caught:
                embedding.get_image_embedding_batch(images)
            assert caught.value.block_index == number
            with pytest.raises(kind) as caught:
                await embedding.aget_image_embedding_batch(images)
            assert caught.value.block_index == number
    assert [each for body in box.requests for each in body["input"] if "image" not in each] == []


def test_the_image_policy_is_enforced(make: Make, cat: bytes, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(adapter.ImageTooLargeError, match="max_bytes"):
        make(images={"max_bytes": 100}).get_image_embedding(cat)
    with pytest.raises(adapter.ImageBlockedError):
        make(images={"local_roots": [str(tmp_path)]}).get_image_embedding(str(photos / "cat.jpg"))


def test_a_text_model_refuses_images(make: Make, cat: bytes) -> None:
    with pytest.raises(adapter.InvalidRequestError, match="does not support embedding with image"):
        make(TEXTS).get_image_embedding(cat)


# In a pipeline


@pytest.mark.filterwarnings("ignore:IngestionPipeline's cache can't tell images")
async def test_a_node_is_embedded_by_its_content(embedding: PredictionGuardEmbedding, photos: Path) -> None:
    path = str(photos / "cat.jpg")
    image, words = embedding.get_image_embedding(path), embedding.get_text_embedding("a caption")

    def nodes() -> list[Any]:
        return [
            TextNode(text="a caption"),
            ImageNode(image_path=path, metadata={"file_name": "cat.jpg"}),
            ImageDocument(image_path=path),
            ImageNode(image_path=path, text="a caption"),
            Document(text="a caption"),
        ]

    expected = [words, image, image, words, words]
    assert [node.embedding for node in embedding(nodes())] == expected
    assert [node.embedding for node in await embedding.acall(nodes())] == expected
    assert embedding([]) == []


# The object


@pytest.mark.parametrize(
    "options",
    [
        {"embed_batch_size": 0},
        {"embed_batch_size": 5000},
        {"embed_batch_size": "many"},
        {"max_concurrency": 0},
        {"model": ""},
        {"model": "a", "model_name": "b"},
        {"model": None},
        {"typo": 1},
        {"truncation_direction": "Up"},
        {"images": {"max_pixels": -1}},
        {"timeout": 0},
        {"base_url": "ftp://example.com"},
        {"api_key": ""},
    ],
)
def test_the_constructor_refuses_invalid_options(options: dict[str, Any]) -> None:
    with pytest.raises(adapter.ConfigurationError):
        PredictionGuardEmbedding(**{"model": "m", "api_key": "k", **options})


def test_model_and_model_name_are_the_same_option() -> None:
    embedding = PredictionGuardEmbedding(model_name="m", api_key="k")
    assert (embedding.model, embedding.model_name, embedding.embed_batch_size) == ("m", "m", 480)
    embedding.model = "n"
    assert embedding.model_name == "n"
    embedding.model_name = "o"
    assert (embedding.model, embedding._request(["x"]).model) == ("o", "o")


def test_copies_work_and_contain_no_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    embedding = make(images={"max_edge": 9}, callback_manager=CallbackManager([debug]))
    vector = embedding.get_text_embedding("a")
    shown = [repr(embedding), str(embedding), embedding.to_json(), repr(embedding.to_dict()), repr(vars(embedding))]
    shown += [repr(event.payload) for pair in debug.get_event_pairs() for event in pair]
    shown += [pickle.dumps(make()).decode("latin-1"), embedding.model_dump_json()]
    assert [text for text in shown if KEY in text] == []
    assert copy.deepcopy(embedding).get_text_embedding("a") == vector
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    data = embedding.to_dict()
    for restored in (
        PredictionGuardEmbedding.from_dict(data),
        pickle.loads(pickle.dumps(make(images={"max_edge": 9}))),
    ):
        assert restored.to_dict() == make(images={"max_edge": 9}).to_dict()
        assert restored.get_text_embedding("a") == vector


async def test_a_text_that_is_no_string_is_named(make: Make) -> None:
    for wrong in (["a"], None, 5):
        with pytest.raises(adapter.ConfigurationError, match=r"must be a string, got .* get_text_embedding_batch"):
            make().get_text_embedding(wrong)  # type: ignore[arg-type]
        with pytest.raises(adapter.ConfigurationError, match=r"must be a string, got .* get_text_embedding_batch"):
            await make().aget_text_embedding_batch([wrong])  # type: ignore[list-item]


def test_errors_of_the_core_are_raised_unchanged(make: Make) -> None:
    with pytest.raises(adapter.PermissionDeniedError):
        make(api_key="wrong").get_text_embedding("a")
    with pytest.raises(adapter.APIConnectionError):
        make(base_url="http://127.0.0.1:9").get_query_embedding("a")
    with pytest.raises(adapter.InvalidRequestError, match="does not support embedding"):
        make("gpt-oss-120b").get_text_embedding("a")
