"""Measure word error rate against bitrate: systems, error rates, intervals, reports."""
