"""The Prefect server of a team: reached, or one line that says why it cannot be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from lcm_lora.errors import UserError

AWAY = timedelta(minutes=10)
"""For so long the server may be away, such as to be restarted: who waits for a stage waits on."""


@contextlib.contextmanager
def reached() -> Iterator[SyncPrefectClient]:
    """Yield a client of the server at PREFECT_API_URL.

    Raises:
        UserError: There is none, it does not let us in, or does not do what it was asked for.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise UserError(
            "PREFECT_API_URL: not set; start a server by `prefect server start`, then set it to "
            "http://127.0.0.1:4200/api"
        )
    try:
        with get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        raise refusal(error) from None
    except ObjectAlreadyExists:
        raise UserError(
            f"Prefect at {url}: somebody else makes the same at this moment; run this again"
        ) from None
    except (httpx.HTTPError, RuntimeError) as error:
        raise UserError(
            f"Prefect at {url}: does not answer: {' '.join(str(error).split())[:160]}; start it, "
            "or set PREFECT_API_URL"
        ) from None


def refusal(error: PrefectHTTPStatusError) -> UserError:
    """Return why the server does not do what it was asked for."""
    url, code = PREFECT_API_URL.value(), error.response.status_code
    if code in {401, 403}:
        return UserError(
            f"Prefect at {url}: does not let us in; set PREFECT_API_AUTH_STRING as it is set for "
            "the server"
        )
    said = " ".join(error.response.text.split())[:200]
    return UserError(f"Prefect at {url}: refused: {said or code}")
