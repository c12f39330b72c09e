"""The Redis transport; private. ``trunkline.layers.redis`` composes it into a channel layer."""
