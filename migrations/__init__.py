"""Alembic migrations: expand first, contract a version later, so that version N-1 runs on schema N."""
