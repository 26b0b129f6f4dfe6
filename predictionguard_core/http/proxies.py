"""The proxies that the environment names, and the connections that go through them."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import ssl
import urllib.request
from typing import Any

import httpcore
import httpx

from predictionguard_core.errors import ConfigurationError

LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
"""Hosts for which no proxy is asked, as httpx's URL patterns."""

_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclasses.dataclass(frozen=True, slots=True)
class Proxies:
    """The proxy for each scheme of a URL, with "all" for the rest. `Proxies()` connects directly."""

    by_scheme: dict[str, httpx.Proxy] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_environment(cls) -> Proxies:
        """Read HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or the system's settings. Raises `ConfigurationError`."""
        found = urllib.request.getproxies()
        return cls({scheme: _proxy(scheme, found[scheme]) for scheme in ("http", "https", "all") if found.get(scheme)})

    def find(self, scheme: str, host: str) -> httpx.Proxy | None:
        """Return the proxy for a host, or None. Loopback addresses and the hosts in NO_PROXY have none."""
        proxy = self.by_scheme.get(scheme) or self.by_scheme.get("all")
        if proxy is None or host in _LOOPBACK_HOSTS or urllib.request.proxy_bypass(host):
            return None
        return proxy

    def needs_tls(self, origin: httpcore.Origin) -> bool:
        """Return whether a connection to `origin` needs a TLS context, for itself or for its proxy."""
        proxy = self._find(origin)
        return origin.scheme == b"https" or (proxy is not None and proxy.url.scheme == "https")

    def connection(
        self, kinds: tuple[Any, Any, Any], origin: httpcore.Origin, tls: ssl.SSLContext | None, **options: Any
    ) -> Any:
        """Return a connection to `origin`, directly or through its proxy. It opens with its first request.

        `kinds` are httpcore's classes for a connection, for a proxy and for a SOCKS proxy, sync or async.
        """
        direct, http, socks = kinds
        proxy = self._find(origin)
        if proxy is None:
            return direct(origin, tls, **options)
        url, options = proxy.url, {**options, "ssl_context": tls, "proxy_auth": proxy.raw_auth}
        options["proxy_url"] = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        if url.scheme.startswith("socks"):
            return socks(**options).create_connection(origin)
        proxy_tls = tls if url.scheme == "https" else None
        return http(**options, proxy_headers=proxy.headers.raw, proxy_ssl_context=proxy_tls).create_connection(origin)

    def _find(self, origin: httpcore.Origin) -> httpx.Proxy | None:
        if not self.by_scheme:
            return None
        return self.find(origin.scheme.decode("ascii"), origin.host.decode("ascii").strip("[]"))


def describe_proxy(scheme: str, host: str) -> str | None:
    """Return the name of the environment's proxy for a host, without its password, for error messages."""
    try:
        proxy = Proxies.from_environment().find(scheme, host)
    except ConfigurationError:
        return None
    return None if proxy is None else f"{proxy.url.scheme}://{proxy.url.netloc.decode('ascii')}"


def _proxy(scheme: str, url: str) -> httpx.Proxy:
    variable = next((name for name in os.environ if name.lower() == f"{scheme}_proxy"), f"{scheme.upper()}_PROXY")
    try:
        proxy = httpx.Proxy(url if "://" in url else f"http://{url}")
        if proxy.url.scheme not in _SCHEMES or not proxy.url.host:
            raise ValueError(f"give a URL with one of {', '.join(_SCHEMES)} and a host")
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        # httpx's own text repeats the URL, which may hold a password.
        reason = "it is no valid URL" if "://" in str(error) or url in str(error) else str(error)
        raise ConfigurationError(
            f"the environment names a proxy that can't be used: {variable} ({reason}); "
            "use a form like http://user:password@proxy.example:8080, or unset it"
        ) from None
    if proxy.url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigurationError(
            f"the environment names a proxy that can't be used: {variable} is a SOCKS proxy, which takes "
            'pip install "httpx[socks]"'
        )
    return proxy
