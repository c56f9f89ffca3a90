"""Google's clients, as the settings say.

Not here: what is asked of them (``jobs``, ``live``).
"""

from __future__ import annotations

import grpc  # type: ignore[import-untyped]  # has no types
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from mdp.config.sections import BigQuerySettings
from mdp.errors import ConfigError


def connect(settings: BigQuerySettings) -> bigquery.Client:
    """Return a client of the REST API: Google's with the credentials of this machine, or an emulator's without.

    Raises:
        GoogleAuthError: this machine has no credentials.
    """
    if settings.api_endpoint is None:
        return bigquery.Client(settings.project, location=settings.location)
    return bigquery.Client(
        settings.project,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # has no types
        location=settings.location,
        client_options={"api_endpoint": settings.api_endpoint},
    )


def connect_writing(settings: BigQuerySettings) -> BigQueryWriteClient:
    """Return a client of the Storage Write API.

    Raises:
        GoogleAuthError: this machine has no credentials.
        ConfigError: an emulator of one API is used and none of the other named.
    """
    transport = None
    if settings.write_endpoint is not None:
        transport = BigQueryWriteGrpcTransport(channel=grpc.insecure_channel(settings.write_endpoint))
    elif settings.api_endpoint is not None:
        expected = "where the emulator has the Storage Write API, as host:port, for MDP_BIGQUERY__API_ENDPOINT is set"
        raise ConfigError("MDP_BIGQUERY__WRITE_ENDPOINT", got=None, expected=expected)
    return BigQueryWriteClient(transport=transport)  # type: ignore[no-untyped-call]  # has no types
