"""Run a real identity provider: Authlib's OpenID Connect server on Flask, with one user who always consents."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

CLIENT_ID = "console"
CLIENT_SECRET = "a secret of the tests"


class Provider:
    """A running provider.

    Attributes:
        claims: Claims of the person who signs in next.
        forged: Claims of the next id tokens that replace the correct ones.
        requests: Parameters of each request to authorize.
    """

    def __init__(self) -> None:
        self.issuer = ""
        self.claims: dict[str, Any] = {"sub": "1"}
        self.forged: dict[str, Any] = {}
        self.requests: list[dict[str, str]] = []


@contextlib.contextmanager
def identity_provider(callback: str) -> Iterator[Provider]:
    """Run a provider with one client, whose callback ends with ``callback``, while the block runs."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
        from werkzeug.serving import make_server

        app, provider = _application(callback)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        provider.issuer = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join(20)
            server.server_close()


def _application(callback: str) -> tuple[Any, Provider]:
    from authlib.integrations.flask_oauth2 import AuthorizationServer
    from authlib.oauth2.rfc6749 import ClientMixin
    from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
    from authlib.oauth2.rfc7636 import CodeChallenge
    from authlib.oidc.core import AuthorizationCodeMixin, UserInfo
    from authlib.oidc.core.grants import OpenIDCode
    from flask import Flask, jsonify, request
    from joserfc.jwk import RSAKey

    provider = Provider()
    key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
    codes: dict[str, Any] = {}

    class Client(ClientMixin):
        client_id = CLIENT_ID

        def get_client_id(self):
            return CLIENT_ID

        def get_default_redirect_uri(self):
            return None

        def get_allowed_scope(self, scope):
            return scope

        def check_redirect_uri(self, redirect_uri):
            return redirect_uri.endswith(callback)

        def check_client_secret(self, client_secret):
            return client_secret == CLIENT_SECRET

        def check_endpoint_auth_method(self, method, endpoint):
            return method == "client_secret_basic"

        def check_response_type(self, response_type):
            return response_type == "code"

        def check_grant_type(self, grant_type):
            return grant_type == "authorization_code"

    class Code(AuthorizationCodeMixin):
        def __init__(self, payload, claims):
            self.redirect_uri, self.scope, self.nonce = payload.redirect_uri, payload.scope, payload.data.get("nonce")
            self.code_challenge = payload.data.get("code_challenge")
            self.code_challenge_method = payload.data.get("code_challenge_method")
            self.claims = claims

        def get_redirect_uri(self):
            return self.redirect_uri

        def get_scope(self):
            return self.scope

        def get_nonce(self):
            return self.nonce

        def get_auth_time(self):
            return int(time.time())

        def get_acr(self):
            return None

        def get_amr(self):
            return None

    class Grant(AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

        def save_authorization_code(self, code, request):
            codes[code] = Code(request.payload, request.user)

        def query_authorization_code(self, code, client):
            return codes.get(code)

        def delete_authorization_code(self, authorization_code):
            for code in [code for code, one in codes.items() if one is authorization_code]:
                del codes[code]

        def authenticate_user(self, authorization_code):
            return authorization_code.claims

    class IdToken(OpenIDCode):
        def exists_nonce(self, nonce, request):
            return False

        def resolve_client_private_key(self, client):
            return key

        def get_client_algorithm(self, client):
            return "RS256"

        def get_encode_header(self, client):
            return {"alg": "RS256", "kid": "one"}

        def get_client_claims(self, client):
            return {"iss": provider.issuer}

        def generate_user_info(self, user, scope):
            return UserInfo(user | provider.forged)

    app = Flask(__name__)
    server = AuthorizationServer(
        app, query_client=lambda name: Client() if name == CLIENT_ID else None, save_token=lambda token, request: None
    )
    server.register_grant(Grant, [IdToken(require_nonce=True), CodeChallenge(required=True)])

    @app.get("/.well-known/openid-configuration")
    def metadata():
        return jsonify(
            issuer=provider.issuer,
            authorization_endpoint=f"{provider.issuer}/authorize",
            token_endpoint=f"{provider.issuer}/token",
            jwks_uri=f"{provider.issuer}/keys",
            id_token_signing_alg_values_supported=["RS256"],
        )

    @app.get("/keys")
    def keys():
        return jsonify(keys=[key.as_dict(private=False)])

    @app.get("/authorize")
    def authorize():
        provider.requests.append(request.args.to_dict())
        grant = server.get_consent_grant(end_user=provider.claims)
        return server.create_authorization_response(request=None, grant_user=provider.claims, grant=grant)

    @app.post("/token")
    def token():
        return server.create_token_response()

    return app, provider
