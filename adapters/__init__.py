"""Adapters: codes straight to the embeddings of a recogniser."""
