"""Celery workers: the pipeline from an sdist to a published wheel, and the sandboxes it runs in."""
