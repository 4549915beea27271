"""Verified byte ranges over HTTP, retries, several fetches at once. It knows no checkpoint."""
