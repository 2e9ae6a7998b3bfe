"""Configuration of a server in a container: what differs between hosts is in the environment."""

import os

c = get_config()  # noqa: F821

c.MLServeServer.ip = "0.0.0.0"
c.MLServeServer.log_style = "json"
c.MLServeServer.access_log = "stderr"
c.MLServeServer.workers = int(os.environ.get("MLSERVE_WORKERS", "2"))
c.MLServeServer.allowed_hosts = os.environ.get("MLSERVE_HOSTS", "localhost").split()
c.MLServeServer.trusted_proxies = os.environ.get("MLSERVE_PROXIES", "").split()

# The password of the database is in PGPASSWORD, and the keys of S3 are in AWS' own variables.
c.MLServeServer.database_url = os.environ.get("MLSERVE_DATABASE_URL", "")
c.MLServeServer.redis_url = os.environ.get("MLSERVE_REDIS_URL", "")
c.MLServeServer.artifacts_url = os.environ.get("MLSERVE_ARTIFACTS_URL", "")
c.MLServeServer.alert_webhook_url = os.environ.get("MLSERVE_WEBHOOK_URL", "")
