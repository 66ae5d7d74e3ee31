"""WER against bytes: systems, error rates, intervals, reports."""
