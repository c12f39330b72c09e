"""The channel layers that users name in ``CHANNEL_LAYERS``: thin compositions of the parts below."""
