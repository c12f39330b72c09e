"""The machine-local transport: one LMDB store in memory, and a doorbell for each event loop. Private."""
