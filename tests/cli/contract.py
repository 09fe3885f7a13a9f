"""What the contract fixes of the commands; other systems are built against these names."""

COMMANDS = (
    *("check", "preview", "send-test", "simulate", "list", "explain", "what-if", "replay"),
    *("suppress", "unsuppress", "forget", "sweep", "purge", "upgrade"),
)
NOT_BUILT_COMMANDS: tuple[str, ...] = ()
VARIABLES = (
    *("DATABASE_URL", "REDIS_URL", "REDIS_TLS_VERIFY", "LAB_API_URL", "LAB_API_TOKEN"),
    *("WEBHOOK_SECRET", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_MESSAGING_SERVICE_SID"),
    *("TWILIO_FROM", "SENDGRID_API_KEY", "SENDGRID_WEBHOOK_PUBLIC_KEY", "TWILIO_API_URL"),
    *("SENDGRID_API_URL", "PUBLIC_URL", "RELAY_ENV", "RELAY_DELIVERY", "RELAY_CONFIG"),
    *("RELAY_TEMPLATES", "ADMIN_PASSWORD_HASH", "ADMIN_PASSWORD", "SECRET_KEY", "METRICS_TOKEN"),
    *("SENTRY_DSN", "LOG_LEVEL", "PORT", "WEB_CONCURRENCY", "TRUSTED_PROXIES"),
)
NOT_BUILT_VARIABLES: tuple[str, ...] = ()
LISTED = (
    *("id", "event_id", "event", "rule", "subject", "to", "channel", "status", "reason"),
    *("attempts", "due_at", "created_at", "sent_at", "provider_id"),
)
