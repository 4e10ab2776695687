"""Logs, their verdict, comparisons and findings."""
