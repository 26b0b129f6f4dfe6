"""What has no colour: where calls go, their headers, and how a client is copied."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from predictionguard_core import settings, steps
from predictionguard_core.errors import PredictionGuardError
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.version import __version__

if TYPE_CHECKING:
    from predictionguard_core.http.send import RequestHead

_SHORTEST_SECRET = 6  # what is shorter stands in many a text by chance, and is no secret
_HIDDEN = "<the api key>"
_USER_AGENT = f"predictionguard-integrations/{__version__}"


@dataclasses.dataclass(frozen=True, slots=True)
class Opened(steps.Response):
    """An answer whose body is still to come."""

    response: Any = None

    def read(self, body: bytes) -> steps.Response:
        """The same answer with its body."""
        return steps.Response(self.status_code, self.headers, body)


class Connection:
    """What `Client` and `AsyncClient` have in common."""

    takes: str
    """The name of the class in httpx that `http_client` has to be of."""

    def __init__(
        self,
        api_key: Any = None,
        base_url: str | None = None,
        *,
        timeout: float | None = settings.DEFAULT_TIMEOUT,
        max_retries: int | None = settings.DEFAULT_MAX_RETRIES,
        images: ImagePolicy | None = None,
        http_client: Any = None,
    ) -> None:
        known = settings.resolve_settings(api_key, base_url, timeout=timeout, max_retries=max_retries)
        self._resolved: settings.Settings | None = known
        self._without_key: dict[str, Any] = {
            "base_url": known.base_url,
            "timeout": known.timeout,
            "max_retries": known.max_retries,
        }
        self._policy = ImagePolicy.of(images)
        self._own = http_client
        settings.check_http_client(http_client, self.takes, "http_client")

    @property
    def _settings(self) -> settings.Settings:
        if self._resolved is None:
            self._resolved = settings.resolve_settings(**self._without_key)
        return self._resolved

    @property
    def base_url(self) -> str:
        """The address that calls go to, without a slash at its end."""
        return str(self._without_key["base_url"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Without the key, and without what is open: the copy reads PREDICTIONGUARD_API_KEY at its first call. Not when
        # it wakes up: a pool of workers waits for ever for a task that does not unpickle.
        return {**self.__dict__, "_resolved": None, "_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: Any) -> Self:
        return self.__copy__()

    @contextlib.contextmanager
    def _unechoed(self) -> Iterator[None]:
        try:
            yield
        except PredictionGuardError as error:
            self._without_echo(error)
            raise

    def _without_echo(self, error: PredictionGuardError) -> PredictionGuardError:
        """The error, and those behind it, without the key that a service may have echoed."""
        key = self._settings.api_key.get_secret_value()
        each: BaseException | None = error if len(key) >= _SHORTEST_SECRET else None
        while each is not None:
            told = {name: text for name, text in vars(each).items() if isinstance(text, str) and key in text}
            vars(each).update({name: text.replace(key, _HIDDEN) for name, text in told.items()})
            if any(isinstance(text, str) and key in text for text in each.args):
                each.args = tuple(text.replace(key, _HIDDEN) if isinstance(text, str) else text for text in each.args)
            each = each.__cause__ or each.__context__
        return error

    def _request_head(self, send: steps.Send) -> RequestHead:
        from predictionguard_core.http.send import RequestHead

        headers = {
            "Authorization": f"Bearer {self._settings.api_key.get_secret_value()}",
            "Accept": "text/event-stream" if send.stream else "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": _USER_AGENT,
            **send.headers,
        }
        if send.body is not None:
            headers["Content-Type"] = send.body.content_type
            headers["Content-Length"] = str(send.body.length)
        return RequestHead(send.method, self.base_url + send.path, headers, self._settings.timeout)
