"""Which codes to send at a rate."""
