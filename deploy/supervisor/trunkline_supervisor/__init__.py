"""Trunkline's processes on one machine or in one container, under supervisord."""
