"""Parts of Kong that this gateway lacks, by name, and the one text that refuses them.

A finding at a field is `NOT_SUPPORTED` alone, because the field's name stands before it (`snis: not supported in this version`); any
other text names the part first: `not_supported("plugin 'jwt'")`. A name that Kong lacks, too, is unknown instead.
"""

from typing import Any, Final

NOT_SUPPORTED: Final = "not supported in this version"


def not_supported(part: str) -> str:
    """`part` names an entity, a path, a plugin or a value, with quotes."""
    return f"{part} is {NOT_SUPPORTED}"


def named(value: Any) -> str:
    """A value of JSON for `not_supported`: `'redis'`, `false`."""
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


_CREDENTIALS: Final = """
    basicauth_credentials header_cert_auth_credentials hmacauth_credentials jwt_secrets keyauth_enc_credentials
    mtls_auth_credentials oauth2_credentials
    """
_BELOW: Final = "degraphql_routes document_objects filter_chains graphql_ratelimiting_cost_decorations"
BELOW_ENTITIES: Final = frozenset((_CREDENTIALS + _BELOW).split())
"""Lists of entities that decK's files have inside other entities."""
_ENTITIES: Final = """
    acme_storage admins application_instances applications audit_objects audit_requests clustering_data_planes
    consumer_group_consumers consumer_group_overrides consumer_group_plugins custom_plugins developers event_hooks files
    filters graphql_ratelimiting_advanced_cost_decoration groups jwt_signer_jwks key_sets keyring_keys keyring_meta keys
    licenses login_attempts oauth2_authorization_codes oauth2_tokens oic_issuers oic_jwks parameters partials
    ratelimiting_metrics rbac_endpoint_permissions rbac_role_endpoints rbac_role_entities rbac_roles rbac_user_roles
    rbac_users response_ratelimiting_metrics rla_counters sessions sm_vaults vault_auth_vaults vaults
    workspace_entities workspace_entity_counters workspaces
    """
LACKING_ENTITIES: Final = frozenset(_ENTITIES.split()) | BELOW_ENTITIES
"""Entities by the names of their schemas, and of their lists in declarative files."""
_PLUGINS: Final = """
    acme ai-aws-guardrails ai-azure-content-safety ai-gcp-model-armor ai-lakera-guard ai-llm-as-judge ai-mcp-proxy
    ai-prompt-compressor ai-prompt-decorator ai-prompt-guard ai-prompt-template ai-proxy ai-proxy-advanced
    ai-rag-injector ai-rate-limiting-advanced ai-request-transformer ai-response-transformer ai-sanitizer
    ai-semantic-cache ai-semantic-prompt-guard ai-semantic-response-guard app-dynamics application-registration
    aws-lambda azure-functions basic-auth bot-detection canary confluent confluent-consume correlation-id datadog
    degraphql exit-transformer file-log forward-proxy graphql-proxy-cache-advanced graphql-rate-limiting-advanced
    grpc-gateway grpc-web header-cert-auth hmac-auth http-log injection-protection ip-restriction jq
    json-threat-protection jwe-decrypt jwt jwt-signer kafka-consume kafka-log kafka-upstream key-auth-enc
    konnect-application-auth ldap-auth ldap-auth-advanced loggly metering-and-billing mocking mtls-auth oas-validation
    oauth2 oauth2-introspection opa openid-connect opentelemetry post-function pre-function proxy-cache
    proxy-cache-advanced rate-limiting-advanced redirect request-callout request-termination request-transformer
    request-transformer-advanced request-validator response-ratelimiting response-transformer
    response-transformer-advanced route-by-header route-transformer-advanced saml service-protection session
    solace-consume solace-log solace-upstream standard-webhooks statsd statsd-advanced syslog tcp-log
    tls-handshake-modifier tls-metadata-headers udp-log upstream-oauth upstream-timeout vault-auth websocket-size-limit
    websocket-validator xml-threat-protection zipkin
    """
LACKING_PLUGINS: Final = frozenset(_PLUGINS.split())
