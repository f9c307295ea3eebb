"""Alembic's folder. Revisions are numbered files that say every table in full, never by importing the live schema."""
