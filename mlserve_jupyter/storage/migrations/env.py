"""Run the migrations on the connection, and in the transaction, that ``schema`` opened."""

from alembic import context

from mlserve_jupyter.storage import monitoring_tables  # noqa: F401  adds its tables
from mlserve_jupyter.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite's changes of the schema are transactional, and the caller's transaction holds them.
    transactional_ddl=True,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
